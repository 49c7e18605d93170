package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

func TestADrainTellsEveryStreamAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir)
	id := uuid.NewString()
	upload, err := ts.objects.UploadObject(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, pattern(70_000))} {
		if err := upload.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	ts.awaitCommitted(t, id, 65_536)
	alice := ts.join(t, "room", "alice", nil)
	health, err := healthpb.NewHealthClient(ts.conn).Watch(deadline(t), &healthpb.HealthCheckRequest{Service: quartetv1.ObjectService_ServiceDesc.ServiceName})
	if err != nil {
		t.Fatal(err)
	}
	wantHealth(t, health, healthpb.HealthCheckResponse_SERVING)

	ended := make(chan error, 1)
	go func() { ended <- ts.stop() }()

	wantHealth(t, health, healthpb.HealthCheckResponse_NOT_SERVING)
	reply, err := alice.Recv()
	if err != nil || !reply.HasGoodbye() || reply.GetGoodbye().GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("alice got %v, %v; want a goodbye", reply, err)
	}
	if _, err := alice.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the goodbye alice got %v, want the end", err)
	}
	err = upload.RecvMsg(&quartetv1.UploadObjectResponse{})
	wantStatus(t, err, codes.Unavailable, "STOPPING")
	if !hasRetryInfo(err) {
		t.Errorf("%v does not say when to come back", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}

	ts = startServer(t, dir)
	state, err := ts.objects.GetUpload(deadline(t), quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if err != nil || state.GetCommittedSizeBytes() != 70_000 {
		t.Errorf("the upload stands at %v, %v; want all 70000 bytes that had arrived", state, err)
	}
}

func wantHealth(t *testing.T, stream grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	got, err := stream.Recv()
	if err != nil || got.GetStatus() != want {
		t.Fatalf("health is %v, %v; want %v", got, err, want)
	}
}

func hasRetryInfo(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

func TestADownloadThatDoesNotEndIsCutAtTheDeadlineOfTheDrain(t *testing.T) {
	ts := startServer(t, t.TempDir(), "QUARTET_DRAIN_TIMEOUT=100ms")
	ts.upload(t, "o", make([]byte, 4<<20))
	stream, err := ts.objects.DownloadObject(deadline(t), whole("o"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- ts.stop() }()
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

func TestReadersThatDoNotReadCostLittleAndHoldUpNobody(t *testing.T) {
	ts := startServer(t, t.TempDir())
	ts.upload(t, "o", make([]byte, 8<<20))
	// The readers run in this process too: small windows keep what they buffer out of the figure.
	conn, err := grpc.NewClient(ts.server.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := heap()
	for range 50 {
		stream, err := quartetv1.NewObjectServiceClient(conn).DownloadObject(deadline(t), whole("o"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ts.objects.GetObject(deadline(t), get("o")); err != nil {
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

func TestAnUploadThatSaysNothingIsEndedAndKept(t *testing.T) {
	ts := startServer(t, t.TempDir(), "QUARTET_OBJECTS_IDLE_TIMEOUT=50ms")
	id := uuid.NewString()
	upload, err := ts.objects.UploadObject(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*quartetv1.UploadObjectRequest{header(id, "o"), chunk(0, pattern(70_000))} {
		if err := upload.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	wantStatus(t, upload.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.DeadlineExceeded, "IDLE")
	ts.awaitCommitted(t, id, 65_536)
}

func TestADeadlineThatHasPassedIsSaid(t *testing.T) {
	ts := startServer(t, t.TempDir())
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(50*time.Millisecond))
	defer cancel()
	stream, err := ts.channels.Exchange(ctx)
	if err == nil {
		err = stream.Send(joinRequest("room", "alice", nil))
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

func TestTheProbePortAnswersTheKubelet(t *testing.T) {
	ts := startServer(t, t.TempDir())
	conn, err := grpc.NewClient(ts.probe.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range []string{"liveness", "readiness"} {
		ctx := deadline(t)
		for {
			response, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: name})
			if err == nil && response.GetStatus() == healthpb.HealthCheckResponse_SERVING {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s is %v, %v", name, response, err)
			}
		}
	}
}
