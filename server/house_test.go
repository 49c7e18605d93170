package main

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
	"example.com/quartet/internal/telemetry"
)

func TestHousekeepingFollowsTheTimeToLive(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir, "QUARTET_OBJECTS_UPLOAD_TTL=1s")
	content := pattern(100_000)
	ts.upload(t, "kept", content)
	if _, err := ts.send(t, header(uuid.NewString(), "abandoned"), chunk(0, content)); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, "objects", "parts", uuid.NewString()+".1.00000000.lost")
	if err := os.WriteFile(lost, content, 0o600); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, ts, map[string]float64{
		"uploads_expired_total": 1, "parts_unreferenced_total": 1,
	})
	if _, got, err := ts.download(t, whole("kept")); err != nil || len(got) != len(content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestHousekeepingEndsAsSoonAsTheServerDrains(t *testing.T) {
	s := openServer(t, telemetry.Discard(), t.TempDir())
	defer s.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	working, stop := s.untilDrain(ctx)
	defer stop()
	close(s.draining)
	select {
	case <-working.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.keepHouse(ctx)
	}()
	select {
	case <-ended:
		t.Error("the service ended, and would end the process before its drain")
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	<-ended
}

func TestHousekeepingSurvivesAStoreThatIsAway(t *testing.T) {
	var log strings.Builder
	tele := telemetry.Discard()
	tele.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := openServer(t, tele, t.TempDir())
	defer s.close()
	if err := os.RemoveAll(filepath.Join(s.cfg.DataDir, "objects", "uploads")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.keepTidying(ctx)
	if strings.Count(log.String(), "removing abandoned and forgotten uploads failed") != 1 {
		t.Errorf("logged:\n%s", &log)
	}
}

func TestReplicasDoNotKeepHouseInStep(t *testing.T) {
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
	ts := startServer(t, t.TempDir(), "QUARTET_OBJECTS_QUOTA_BYTES=200000B")
	ts.upload(t, "o", pattern(100_000))
	stated := header(uuid.NewString(), "p")
	stated.GetHeader().SetSizeBytes(100_001)
	_, err := ts.send(t, stated)
	wantStatus(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	if text := status.Convert(err).Message(); !strings.Contains(text, "100000") || !strings.Contains(text, "100001") {
		t.Errorf("the text is %q", text)
	}
	id, content := uuid.NewString(), pattern(150_000)
	_, err = ts.send(t, header(id, "p"), chunk(0, content), finish(content))
	wantStatus(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	wantNumbers(t, ts, map[string]float64{"objects_stored_bytes": 165_536, "objects_quota_bytes": 200_000})
	if _, err := ts.objects.DeleteObject(deadline(t), quartetv1.DeleteObjectRequest_builder{Name: "o"}.Build()); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.send(t, header(id, "p"), chunk(65_536, content[65_536:]), finish(content)); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, ts, map[string]float64{"objects_stored_bytes": 150_000})
}
