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

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/server/channel/broker"
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

// sentReplies is a stream that keeps what is sent.
type sentReplies struct {
	exchangeStream
	ctx     context.Context
	replies []*quartetv1.ExchangeResponse
}

func (s *sentReplies) Context() context.Context { return s.ctx }
func (s *sentReplies) Send(r *quartetv1.ExchangeResponse) error {
	s.replies = append(s.replies, r)
	return nil
}

// TestNothingFollowsTheGoodbye has a participant half-close between its goodbye and the end, when
// there is a message that it has not got yet.
func TestNothingFollowsTheGoodbye(t *testing.T) {
	b, err := broker.Open(t.Context(), "embedded:", broker.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	if _, err := b.Publish(t.Context(), "room", broker.Message{Participant: "bob", ID: "1"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream := &sentReplies{ctx: ctx}
	c := &conversation{
		broker: b, stream: stream, channel: "room", sending: make(chan struct{}, 1),
		unread: sendTimer{after: time.Minute, expired: make(chan struct{}, 1)},
	}
	if err := c.sayGoodbye(); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- c.leave() }()
	// leave waits for the end of the stream only after it has noted all.
	for done := false; !done; {
		c.sending <- struct{}{}
		done = c.leaving
		<-c.sending
	}
	if err := c.send(&quartetv1.ExchangeResponse{}, nil); !errors.Is(err, errOver) {
		t.Errorf("another reply: %v", err)
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(stream.replies) != 1 || !stream.replies[0].HasGoodbye() {
		t.Errorf("sent were %v", stream.replies)
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
		_ = stream.Send(joinRequest("room", "alice", nil)) // Recv tells why it failed, if it has.
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}
