package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/transfer"
)

// numbers reads every series of the domain from the registry, histograms as the number of their observations.
func numbers(t *testing.T, tele *telemetry.Telemetry) map[string]float64 {
	t.Helper()
	families, err := tele.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "quartet_") {
			continue
		}
		for _, m := range family.GetMetric() {
			all[seriesName(family.GetName(), m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func seriesName(family string, m *dto.Metric) string {
	for _, label := range m.GetLabel() {
		family += fmt.Sprintf("{%s}", label.GetValue())
	}
	return strings.TrimPrefix(family, "quartet_")
}

// wantNumbers waits for the numbers, since a server counts after it has answered.
func wantNumbers(t *testing.T, ts *testServer, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		var got float64
		eventually(t, func() bool {
			var found bool
			got, found = numbers(t, ts.telemetry)[name]
			return found && got == value
		}, func() string { return fmt.Sprintf("%s is %v, want %v", name, got, value) })
	}
}

func eventually(t *testing.T, condition func() bool, problem func() string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(problem())
		}
	}
}

func TestEverySeriesIsThereBeforeTheFirstCall(t *testing.T) {
	ts := startServer(t, t.TempDir())
	wantNumbers(t, ts, map[string]float64{
		"object_committed_bytes_total": 0, "objects_finished_total": 0, "uploads_expired_total": 0,
		"parts_unreferenced_total": 0, "objects_stored_bytes": 0, "objects_quota_bytes": 0,
		"transfers_resumed_total{upload}": 0, "transfers_resumed_total{download}": 0,
		"checksum_failures_total{chunk}": 0, "checksum_failures_total{object}": 0, "checksum_failures_total{store}": 0,
		"channel_messages_total{kept}": 0, "channel_messages_total{duplicate}": 0,
		"channel_delivered_total": 0, "channel_delivery_seconds": 0,
		"channel_participants": 0, "channels_open": 0, "channel_lag_messages": 0,
		"backend_up{objects}": 1, "backend_up{channels}": 1,
	})
}

func TestTransfersAreCountedAsWhatBecameOfThem(t *testing.T) {
	ts := startServer(t, t.TempDir())
	content, id := pattern(300_000), uuid.NewString()
	if _, err := ts.send(t, header(id, "o"), chunk(0, content[:100_000])); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, ts, map[string]float64{"object_committed_bytes_total": 100_000, "objects_finished_total": 0, "transfers_resumed_total{upload}": 0})
	for range 2 { // The second time it is finished already.
		messages := []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(100_000, content[100_000:]), finish(content)}
		if _, err := ts.send(t, messages...); err != nil {
			wantStatus(t, err, codes.OutOfRange, "OFFSET_MISMATCH")
		}
	}
	wantNumbers(t, ts, map[string]float64{"object_committed_bytes_total": 300_000, "objects_finished_total": 1, "transfers_resumed_total{upload}": 1})

	for _, offset := range []uint64{0, 250_000} {
		request := quartetv1.DownloadObjectRequest_builder{Name: "o", ReadOffset: offset}.Build()
		if _, _, err := ts.download(t, request); err != nil {
			t.Fatal(err)
		}
	}
	wantNumbers(t, ts, map[string]float64{"transfers_resumed_total{download}": 1})
}

func TestWrongBytesAreCountedByWhatTheyBelongTo(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir)
	data := pattern(1000)
	_, err := ts.send(t, header(uuid.NewString(), "o"), chunkWithChecksum(0, data, transfer.Checksum(data)+1))
	wantStatus(t, err, codes.InvalidArgument, "CHECKSUM_MISMATCH")
	wantNumbers(t, ts, map[string]float64{"checksum_failures_total{chunk}": 1, "checksum_failures_total{object}": 0})

	other := pattern(1000)
	other[0]++
	_, err = ts.send(t, header(uuid.NewString(), "o"), chunk(0, data), finish(other))
	wantStatus(t, err, codes.InvalidArgument, "CHECKSUM_MISMATCH")
	wantNumbers(t, ts, map[string]float64{"checksum_failures_total{chunk}": 1, "checksum_failures_total{object}": 1, "checksum_failures_total{store}": 0})

	ts.upload(t, "o", data)
	parts, err := filepath.Glob(filepath.Join(dir, "objects", "parts", "*"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("the object is in %q, %v", parts, err)
	}
	if err := os.WriteFile(parts[0], other, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = ts.download(t, whole("o"))
	wantStatus(t, err, codes.DataLoss, "CORRUPT")
	wantNumbers(t, ts, map[string]float64{"checksum_failures_total{store}": 1, "objects_finished_total": 1})
}

func TestAbandonedUploadsAreCountedWhenTheyAreRemoved(t *testing.T) {
	ts := startServer(t, t.TempDir())
	ts.upload(t, "finished", pattern(1000))
	if _, err := ts.send(t, header(uuid.NewString(), "abandoned"), chunk(0, pattern(100_000))); err != nil {
		t.Fatal(err)
	}
	if removed, err := ts.store.Expire(t.Context(), time.Now().Add(time.Hour)); err != nil || removed != 2 {
		t.Fatalf("%d removed, %v", removed, err)
	}
	wantNumbers(t, ts, map[string]float64{"uploads_expired_total": 1})
}

func TestMessagesAndParticipantsAreCounted(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice, bob := ts.join(t, "room", "alice", nil), ts.join(t, "room", "bob", nil)
	ts.join(t, "elsewhere", "carol", nil)
	wantNumbers(t, ts, map[string]float64{"channel_participants": 3, "channels_open": 2})
	alice.say(t, "1", "hello")
	alice.say(t, "1", "hello")
	bob.message(t)
	wantNumbers(t, ts, map[string]float64{
		"channel_messages_total{kept}": 1, "channel_messages_total{duplicate}": 1, "channel_delivered_total": 2,
		"channel_delivery_seconds": 2, "channel_lag_messages": 0,
	})
	if err := bob.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, ts, map[string]float64{"channel_participants": 2, "channels_open": 2})
}

func TestAParticipantThatDoesNotReadLagsUntilItDoes(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice, idle := ts.join(t, "room", "alice", nil), ts.join(t, "room", "idle", nil)
	const count = 30 // More than what the connection buffers, of 32 KiB each.
	for n := range count {
		alice.say(t, fmt.Sprint(n), strings.Repeat("x", 32<<10))
	}
	eventually(t, func() bool { return numbers(t, ts.telemetry)["channel_lag_messages"] > count/2 },
		func() string {
			return fmt.Sprintf("behind by %v of %d messages", numbers(t, ts.telemetry)["channel_lag_messages"], count)
		})
	for range count {
		idle.message(t)
		if len(alice.early) == 0 {
			alice.early = append(alice.early, alice.message(t))
		}
		alice.message(t)
	}
	wantNumbers(t, ts, map[string]float64{"channel_lag_messages": 0, "channel_delivered_total": 2 * count})
}
