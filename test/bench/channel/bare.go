package channel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"example.com/quartet/test/bench/child"
)

// The bare variant is the least that a channel over gRPC and JetStream can be: a server publishes
// what a participant sends and gives what one ordered consumer delivers to every participant. It
// has no positions, no replay, no limits, no deadline for slow readers and no instrumentation, so
// that what it takes is what grpc-go and NATS take.

// bareArgument tells a child that it is a bare server; the URL of NATS follows.
const bareArgument = "channel-bare"

const (
	bareStream  = "BARE"
	barePrefix  = "bare."
	bareChannel = "channel" // the name in the metadata of a call
	// barePending is more than a channel has on its way at a time.
	barePending = 16
)

// Bare is a bare server, as its parent sees it, and its service.
type Bare struct {
	grpc_testing.UnimplementedTestServiceServer
	address   string
	jetStream jetstream.JetStream

	mu sync.Mutex
	// readers has the participants of each channel, with the contexts of their calls.
	readers map[string]map[replyQueue]context.Context
}

type replyQueue chan *grpc_testing.StreamingOutputCallResponse

// Address is where it listens.
func (b *Bare) Address(_ Nothing, answer *string) error {
	*answer = b.address
	return nil
}

// serveBare serves until there is no parent any more.
func serveBare(url string) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	b := &Bare{readers: map[string]map[replyQueue]context.Context{}}
	if b.jetStream, err = jetstream.New(conn); err != nil {
		return err
	}
	ctx := context.Background()
	config := jetstream.StreamConfig{Name: bareStream, Subjects: []string{barePrefix + "*"}}
	if _, err := b.jetStream.CreateOrUpdateStream(ctx, config); err != nil {
		return err
	}
	consumer, err := b.jetStream.OrderedConsumer(ctx, bareStream,
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(b.deliver)
	if err != nil {
		return err
	}
	defer consuming.Stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.address = listener.Addr().String()
	server := grpc.NewServer()
	defer server.Stop()
	grpc_testing.RegisterTestServiceServer(server, b)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := child.Serve(b); err != nil {
		return err
	}
	server.Stop()
	return <-failed
}

// deliver gives a message to all participants of its channel here.
func (b *Bare) deliver(m jetstream.Msg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reply := &grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: m.Data()}}
	for reader, ctx := range b.readers[m.Subject()] {
		select {
		case reader <- reply:
		case <-ctx.Done():
		}
	}
}

// FullDuplexCall is one participant. A reply without a payload is a receipt.
func (b *Bare) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	names := md.Get(bareChannel)
	if len(names) != 1 {
		return errors.New("the call has to name its channel")
	}
	subject := barePrefix + names[0]
	replies := make(replyQueue, barePending)
	b.mu.Lock()
	if b.readers[subject] == nil {
		b.readers[subject] = map[replyQueue]context.Context{}
	}
	b.readers[subject][replies] = stream.Context()
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.readers[subject], replies)
	}()
	// The first reply says that nothing will be missed.
	if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	var sending sync.Mutex
	go func() {
		for {
			select {
			case reply := <-replies:
				sending.Lock()
				err := stream.Send(reply)
				sending.Unlock()
				if err != nil {
					return
				}
			case <-stream.Context().Done():
				return
			}
		}
	}()
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // The participant has left.
		}
		body := request.GetPayload().GetBody()
		if _, err := b.jetStream.Publish(stream.Context(), subject, body); err != nil {
			return err
		}
		sending.Lock()
		err = stream.Send(&grpc_testing.StreamingOutputCallResponse{})
		sending.Unlock()
		if err != nil {
			return err
		}
	}
}

// bareParticipant is one in a channel of bare servers, with a connection of its own.
type bareParticipant struct {
	conn               *grpc.ClientConn
	stream             grpc_testing.TestService_FullDuplexCallClient
	receipts, messages chan error
}

func joinBare(ctx context.Context, address, room string) (p *bareParticipant, err error) {
	p = &bareParticipant{
		receipts: make(chan error, barePending), messages: make(chan error, barePending),
	}
	p.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, bareChannel, room)
	p.stream, err = grpc_testing.NewTestServiceClient(p.conn).FullDuplexCall(ctx)
	if err == nil {
		_, err = p.stream.Recv()
	}
	if err != nil {
		_ = p.conn.Close()
		return nil, fmt.Errorf("join a bare server: %w", err)
	}
	go p.receive()
	return p, nil
}

// receive tells receipts from messages until the connection is closed.
func (p *bareParticipant) receive() {
	defer close(p.receipts)
	defer close(p.messages)
	for {
		reply, err := p.stream.Recv()
		switch {
		case err != nil:
			return
		case reply.GetPayload() == nil:
			p.receipts <- nil
		default:
			p.messages <- nil
		}
	}
}

var errLeft = errors.New("the bare server has ended the call")

// member is how messages are measured.
func (p *bareParticipant) member() member {
	next := func(ctx context.Context, from <-chan error) error {
		select {
		case _, ok := <-from:
			if !ok {
				return errLeft
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return member{
		send: func(ctx context.Context, body []byte) error {
			payload := &grpc_testing.Payload{Body: body}
			if err := p.stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload}); err != nil {
				return err
			}
			return next(ctx, p.receipts)
		},
		receive: func(ctx context.Context) error { return next(ctx, p.messages) },
		leave:   func() { _ = p.conn.Close() },
	}
}
