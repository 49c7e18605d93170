package channel

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/app/apptest"
)

func TestADrainSaysGoodbyeToEveryParticipant(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	ended := make(chan error, 1)
	go func() { ended <- ts.Stop() }()
	reply, err := alice.Recv()
	if err != nil || !reply.HasGoodbye() || reply.GetGoodbye().GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("alice got %v, %v; want a goodbye", reply, err)
	}
	if _, err := alice.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the goodbye alice got %v, want the end", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestADrainEndsAnExchangeWithoutItsJoin(t *testing.T) {
	ts := startServer(t, t.TempDir())
	stream, err := ts.channels.Exchange(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	// What is answered after it says that it has arrived.
	if _, err := healthpb.NewHealthClient(ts.Conn).Check(apptest.Deadline(t),
		&healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- ts.Stop() }()
	_, err = stream.Recv()
	apptest.WantStatus(t, err, codes.Unavailable, "STOPPING")
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}
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
