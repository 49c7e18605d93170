package object

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/crc32c"
)

func TestEverySeriesIsThereBeforeTheFirstCall(t *testing.T) {
	startServer(t, t.TempDir()).wantNumbers(t, map[string]float64{
		"object_committed_bytes_total": 0, "objects_finished_total": 0, "uploads_expired_total": 0,
		"uploads_unfinished": 0, "objects_stored_bytes": 0, "objects_quota_bytes": 0,
		"transfers_resumed_total{upload}":   0,
		"transfers_resumed_total{download}": 0,
		"checksum_failures_total{chunk}":    0,
		"checksum_failures_total{object}":   0,
		"checksum_failures_total{store}":    0,
		"backend_up{object}":                1,
	})
}

func TestTransfersAreCountedAsWhatBecameOfThem(t *testing.T) {
	ts := startServer(t, t.TempDir())
	content, id := pattern(300_000), uuid.NewString()
	if _, err := ts.send(t, header(id, "o"), chunk(0, content[:100_000])); err != nil {
		t.Fatal(err)
	}
	ts.wantNumbers(t, map[string]float64{"object_committed_bytes_total": 100_000,
		"objects_finished_total": 0, "transfers_resumed_total{upload}": 0})
	for range 2 { // The second time it is finished already.
		messages := []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(100_000, content[100_000:]),
			finish(content)}
		if _, err := ts.send(t, messages...); err != nil {
			apptest.WantStatus(t, err, codes.OutOfRange, "OFFSET_MISMATCH")
		}
	}
	ts.wantNumbers(t, map[string]float64{"object_committed_bytes_total": 300_000,
		"objects_finished_total": 1, "transfers_resumed_total{upload}": 1})

	for _, offset := range []uint64{0, 250_000} {
		request := quartetv1.DownloadObjectRequest_builder{Name: "o", ReadOffset: offset}.Build()
		if _, _, err := ts.download(t, request); err != nil {
			t.Fatal(err)
		}
	}
	ts.wantNumbers(t, map[string]float64{"transfers_resumed_total{download}": 1})
}

func TestWrongBytesAreCountedByWhatTheyBelongTo(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir)
	data := pattern(1000)
	_, err := ts.send(t, header(uuid.NewString(), "o"),
		chunkWithChecksum(0, data, crc32c.Checksum(data)+1))
	apptest.WantStatus(t, err, codes.InvalidArgument, "CHECKSUM_MISMATCH")
	ts.wantNumbers(t, map[string]float64{"checksum_failures_total{chunk}": 1,
		"checksum_failures_total{object}": 0})

	other := pattern(1000)
	other[0]++
	_, err = ts.send(t, header(uuid.NewString(), "o"), chunk(0, data), finish(other))
	apptest.WantStatus(t, err, codes.InvalidArgument, "CHECKSUM_MISMATCH")
	ts.wantNumbers(t, map[string]float64{"checksum_failures_total{chunk}": 1,
		"checksum_failures_total{object}": 1, "checksum_failures_total{store}": 0})

	ts.upload(t, "o", data)
	files, err := filepath.Glob(filepath.Join(dir, "objects", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the object is in %q, %v", files, err)
	}
	file, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(other[:1], 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, err = ts.download(t, whole("o"))
	apptest.WantStatus(t, err, codes.DataLoss, "CORRUPT")
	ts.wantNumbers(t, map[string]float64{"checksum_failures_total{store}": 1,
		"objects_finished_total": 1})
}
