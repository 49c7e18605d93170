package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// stuckConn is a connection on which nothing more is sent once it is stuck, until it is closed.
type stuckConn struct {
	net.Conn
	stuck, closed chan struct{}
	once          sync.Once
}

func (c *stuckConn) Write(p []byte) (int, error) {
	select {
	case <-c.stuck:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Write(p)
	}
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// counter answers with how many messages it got.
type counter struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (counter) StreamingInputCall(s grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	for n := int32(0); ; n++ {
		_, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
	}
}

// The stream is still on its way when the connection ends, which is when grpc-go repeats one by
// itself.
func TestAStreamIsNotRepeatedWithAPartOfItsMessages(t *testing.T) {
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, counter{}) })
	first := make(chan *stuckConn, 1)
	dialer := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		wrapped := &stuckConn{Conn: conn, stuck: make(chan struct{}), closed: make(chan struct{})}
		select {
		case first <- wrapped:
		default:
		}
		return wrapped, nil
	})
	cfg := rpc.ClientConfig{
		KeepaliveTime: 30 * time.Second, KeepaliveTimeout: 10 * time.Second,
		UnaryTimeout: 10 * time.Second, MaxReceiveBytes: 4 << 20,
		ResolveInterval: 5 * time.Second,
	}
	services := []protoreflect.ServiceDescriptor{grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")}
	conn, err := rpc.NewClient(cfg, telemetry.Discard(), address, services, dialer)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := clienttest.Deadline(t)
	if err := rpc.WaitReady(ctx, conn, nil); err != nil {
		t.Fatal(err)
	}
	stuck := <-first
	close(stuck.stuck)
	stream, err := grpc_testing.NewTestServiceClient(conn).StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = stream.Send(&grpc_testing.StreamingInputCallRequest{})
		_ = stuck.Close()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("sending ended with %v", err)
	}
	if response, err := stream.CloseAndRecv(); status.Code(err) != codes.Unavailable {
		t.Errorf("answered with %v, %v", response, err)
	}
}
