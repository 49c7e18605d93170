package object

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

func TestHousekeepingFollowsTheTimeToLive(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir, "TEST_OBJECT_UPLOAD_TTL=1s")
	content := pattern(100_000)
	ts.upload(t, "kept", content)
	if _, err := ts.send(t, header(uuid.NewString(), "abandoned"), chunk(0, content)); err != nil {
		t.Fatal(err)
	}
	ts.wantNumbers(t, map[string]float64{"uploads_expired_total": 1})
	apptest.Eventually(t, func() bool {
		left, err := os.ReadDir(filepath.Join(dir, "uploads"))
		return err == nil && len(left) == 0
	}, func() string { return "something is left of the uploads" })
	if _, got, err := ts.download(t, whole("kept")); err != nil || len(got) != len(content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestUploadsThatExpireNoLongerCountAsUnfinished(t *testing.T) {
	for what, start := range starts {
		t.Run(what, func(t *testing.T) {
			ts := start(t, "TEST_OBJECT_UPLOAD_TTL=1s", "TEST_OBJECT_IDLE_TIMEOUT=1m")
			for range 3 {
				if _, err := ts.send(t, header(uuid.NewString(), "o"), chunk(0, pattern(100_000))); err != nil {
					t.Fatal(err)
				}
			}
			// This one is not idle, however long its stream takes.
			id := uuid.NewString()
			upload, err := ts.objects.UploadObject(apptest.Deadline(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*quartetv1.UploadObjectRequest{header(id, "busy"), chunk(0, pattern(100_000))} {
				if err := upload.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			ts.wantNumbers(t, map[string]float64{"uploads_expired_total": 3, "uploads_unfinished": 1})
			if _, err := upload.CloseAndRecv(); err != nil {
				t.Error(err)
			}
			ts.wantNumbers(t, map[string]float64{"uploads_unfinished": 0})
		})
	}
}

func TestHousekeepingGoesOnAfterAnOutageOfTheStore(t *testing.T) {
	var log telemetrytest.Log
	tele := telemetry.Discard()
	tele.Log = slog.New(slog.NewTextHandler(&log, nil))
	dir := t.TempDir()
	cfg := *Service().Config.(*Config)
	// Its pauses last a tenth of that at most, and half as long at least.
	if err := config.Load("TEST_", environment(dir, "TEST_OBJECT_UPLOAD_TTL=1s"),
		config.Group{Prefix: "OBJECT_", Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), cfg, app.Host{Telemetry: tele,
		RPC: &rpc.ServerConfig{MaxReceiveBytes: 1 << 20, StreamWindowBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.engine.Close()
	if err := os.RemoveAll(filepath.Join(dir, "uploads")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		s.housekeeping(ctx)
	}()
	apptest.Eventually(t, func() bool {
		return strings.Count(log.String(), "removing abandoned uploads failed") > 1
	}, func() string { return "logged:\n" + log.String() })
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it was tried again after %v", took)
	}
	cancel()
	<-ended
}

// The stream begins when housekeeping has found that no other one has the upload.
func TestAStreamThatBeginsWhileItsUploadExpiresWaitsForThat(t *testing.T) {
	for what, start := range starts {
		t.Run(what, func(t *testing.T) {
			ts := start(t)
			content, id := pattern(200_000), uuid.NewString()
			if _, err := ts.send(t, header(id, "o"), chunk(0, content[:131_072])); err != nil {
				t.Fatal(err)
			}
			ts.awaitCommitted(t, id)
			ended := make(chan error, 1)
			begun := false
			take := func(taken string) (release func(), ok bool) {
				if begun { // A folder has two files of an upload.
					return nil, false
				}
				begun = true
				// The server's own housekeeping may have it for a moment.
				apptest.Eventually(t, func() bool {
					release, ok = ts.service.leases.try(taken)
					return ok
				}, func() string { return "the upload is busy" })
				go func() {
					_, err := ts.send(t, header(id, "o"), chunk(131_072, content[131_072:]), finish(content))
					ended <- err
				}()
				apptest.Eventually(t, func() bool {
					ts.service.leases.mu.Lock()
					defer ts.service.leases.mu.Unlock()
					upload := ts.service.leases.uploads[id]
					return upload != nil && upload.users == 2
				}, func() string { return "the stream does not come" })
				return release, ok
			}
			n, err := ts.service.engine.Expire(t.Context(), time.Now().Add(time.Hour), take)
			if n != 1 || err != nil {
				t.Errorf("%d expired, %v", n, err)
			}
			apptest.WantStatus(t, <-ended, codes.OutOfRange, "OFFSET_MISMATCH")
			if _, err := ts.send(t, header(id, "o"), chunk(0, content), finish(content)); err != nil {
				t.Error(err)
			}
			ts.wantNumbers(t, map[string]float64{"checksum_failures_total{store}": 0})
		})
	}
}

func TestReplicasDoTheirHousekeepingAtDifferentTimes(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(time.Hour)
		if d < time.Hour/2 || d > time.Hour {
			t.Fatalf("a pause of %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

func TestAnUploadBeyondTheQuotaIsRefusedAndContinuesWhenThereIsRoom(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_QUOTA_BYTES=260000B")
	ts.upload(t, "o", pattern(100_000))
	stated := header(uuid.NewString(), "p")
	stated.GetHeader().SetSizeBytes(150_000)
	_, err := ts.send(t, stated)
	apptest.WantStatus(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	if text := status.Convert(err).Message(); !strings.Contains(text, "150000") {
		t.Errorf("the text is %q", text)
	}
	id, content := uuid.NewString(), pattern(150_000)
	_, err = ts.send(t, header(id, "p"), chunk(0, content[:70_000]), chunk(70_000, content[70_000:]),
		finish(content))
	apptest.WantStatus(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	if _, err := ts.objects.DeleteObject(apptest.Deadline(t),
		quartetv1.DeleteObjectRequest_builder{Name: "o"}.Build()); err != nil {
		t.Fatal(err)
	}
	ts.awaitCommitted(t, id)
	state, err := ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil {
		t.Fatal(err)
	}
	at := int(state.GetCommittedSizeBytes())
	if _, err := ts.send(t, header(id, "p"), chunk(at, content[at:]), finish(content)); err != nil {
		t.Fatal(err)
	}
}
