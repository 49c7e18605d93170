package object

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/enginetest"
)

func TestADrainEndsAnUploadAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir)
	id := uuid.NewString()
	upload, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, pattern(70_000))} {
		if err := upload.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	ts.awaitCommitted(t, id)
	ended := make(chan error, 1)
	go func() { ended <- ts.Stop() }()
	err = upload.RecvMsg(&quartetv1.UploadObjectResponse{})
	apptest.WantStatus(t, err, codes.Unavailable, "STOPPING")
	if rpc.RetryDelay(err) <= 0 {
		t.Errorf("%v does not say when to come back", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}
	ts = startServer(t, dir)
	state, err := ts.objects.GetUpload(apptest.Deadline(t),
		quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil || state.GetCommittedSizeBytes() != 70_000 {
		t.Errorf("the upload stands at %v, %v; want all 70000 bytes that had arrived", state, err)
	}
}

// Its caller has as many unfinished uploads as it may, so that the stream cannot begin.
func TestADrainTellsAnUploadThatIsOnlyAHeaderToContinueElsewhere(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_CALLER_UPLOADS=1")
	if _, err := ts.send(t, header(uuid.NewString(), "a"), chunk(0, pattern(70_000))); err != nil {
		t.Fatal(err)
	}
	upload, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	if err := upload.Send(header(id, "b")); err != nil {
		t.Fatal(err)
	}
	apptest.Eventually(t, func() bool { return ts.service.leases.busy(id) },
		func() string { return "the stream does not come" })
	ended := make(chan error, 1)
	go func() { ended <- ts.Stop() }()
	err = upload.RecvMsg(&quartetv1.UploadObjectResponse{})
	apptest.WantStatus(t, err, codes.Unavailable, "STOPPING")
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestADownloadThatDoesNotEndIsCutAtTheDeadlineOfTheDrain(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_DRAIN_BUDGET=3s")
	ts.upload(t, "o", make([]byte, 4<<20))
	stream, err := ts.objects.DownloadObject(apptest.Deadline(t), whole("o"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- ts.Stop() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("drain: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a reader that does not read holds the server up")
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the reader got %v, want UNAVAILABLE, which it resumes from", err)
	}
}

func TestClientsThatDoNotReadTakeLittleMemoryAndDelayNoOthers(t *testing.T) {
	ts := startServer(t, t.TempDir())
	ts.upload(t, "o", make([]byte, 8<<20))
	// The readers run in this process too: small windows keep what they buffer out of the figure.
	conn, err := grpc.NewClient(ts.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := heap()
	for range 50 {
		stream, err := quartetv1.NewObjectServiceClient(conn).DownloadObject(apptest.Deadline(t),
			whole("o"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ts.objects.GetObject(apptest.Deadline(t), get("o")); err != nil {
		t.Error(err)
	}
	// 50 whole objects would be 400 MiB. What both ends hold of each is a few buffers.
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestAnUploadThatSendsNothingIsEndedAndKept(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_IDLE_TIMEOUT=3s")
	id := uuid.NewString()
	upload, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, pattern(70_000))} {
		if err := upload.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	apptest.WantStatus(t, upload.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.DeadlineExceeded,
		"IDLE")
	ts.awaitCommitted(t, id)
}

// trickle is a stream whose messages come otherwise.
type trickle struct {
	uploadStream
	ctx      context.Context
	response *quartetv1.UploadObjectResponse
}

func (s *trickle) Context() context.Context { return s.ctx }

func (s *trickle) SendAndClose(r *quartetv1.UploadObjectResponse) error {
	s.response = r
	return nil
}

func TestAnUploadThatIsTooSlowIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := *Service().Config.(*Config)
		env := environment(t.TempDir(), "TEST_OBJECT_IDLE_TIMEOUT=1s")
		if err := config.Load("TEST_", env, config.Group{Prefix: "OBJECT_", Into: &cfg}); err != nil {
			t.Fatal(err)
		}
		s, err := open(t.Context(), cfg, app.Host{Telemetry: telemetry.Discard(),
			RPC: &rpc.ServerConfig{MaxReceiveBytes: 1 << 20, StreamWindowBytes: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.engine.Close()
		send := func(size int) (time.Duration, error) {
			h := engine.Header{UploadID: uuid.NewString(), Name: "o"}
			lease, err := s.leases.acquire(t.Context(), h.UploadID, enginetest.AnyName)
			if err != nil {
				t.Fatal(err)
			}
			defer lease.release()
			w := &writer{service: s, ctx: t.Context(), header: h, lease: lease}
			defer w.close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			requests := make(chan rpc.Received[uploadRequest])
			go func() {
				for i := range 100 {
					time.Sleep(50 * time.Millisecond)
					next := rpc.Received[uploadRequest]{
						Message: &uploadRequest{UploadObjectRequest: chunk(i*size, pattern(size))},
					}
					select {
					case requests <- next:
					case <-ctx.Done():
						return
					}
				}
				select {
				case requests <- rpc.Received[uploadRequest]{Err: io.EOF}:
				case <-ctx.Done():
				}
			}()
			began := time.Now()
			err = s.receiveUpload(w, requests, &trickle{ctx: ctx})
			return time.Since(began), err
		}
		if took, err := send(minRate/20 - 1); !errors.Is(err, rpc.ErrIdle) || took > 2*time.Second {
			t.Errorf("less than %d bytes in a second: %v after %v", minRate, err, took)
		}
		if took, err := send(minRate / 10); err != nil || took < 5*time.Second {
			t.Errorf("more than %d bytes in a second: %v after %v", minRate, err, took)
		}
	})
}
