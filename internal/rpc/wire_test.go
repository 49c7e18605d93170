package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry/telemetrytest"
)

// waiting is a service whose handlers wait for the next message and for the end of the stream's
// context at the same time, as handlers do that have something else to wait for.
type waiting struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (waiting) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	return await(stream.Context(), Receive(stream.Context(), stream.Recv))
}

func (waiting) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	return await(stream.Context(), Receive(stream.Context(), stream.Recv))
}

func await[T any](ctx context.Context, messages <-chan Received[T]) error {
	for {
		select {
		case r := <-messages:
			if r.Err != nil {
				return unlessEOF(r.Err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// garbage is a codec whose messages have no meaning.
type garbage struct{}

func (garbage) Marshal(any) ([]byte, error) { return []byte{0xff}, nil }
func (garbage) Unmarshal([]byte, any) error { return nil }
func (garbage) Name() string                { return "proto" }

// TestServersCountWhatCallersGet sends what grpc-go refuses, and expects the server to count and to
// log what its caller got.
func TestServersCountWhatCallersGet(t *testing.T) {
	const times = 100
	small, large := &grpc_testing.StreamingInputCallRequest{Payload: payload(10)},
		&grpc_testing.StreamingInputCallRequest{Payload: payload(2000)}
	clientStream := func(ctx context.Context, conn *grpc.ClientConn, last any,
		opts ...grpc.CallOption) error {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true},
			grpc_testing.TestService_StreamingInputCall_FullMethodName, opts...)
		return sendBoth(stream, err, small, last)
	}
	bidiStream := func(ctx context.Context, conn *grpc.ClientConn, last any,
		opts ...grpc.CallOption) error {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			grpc_testing.TestService_FullDuplexCall_FullMethodName, opts...)
		return sendBoth(stream, err, small, last)
	}
	serverStream := func(ctx context.Context, conn *grpc.ClientConn, last any,
		opts ...grpc.CallOption) error {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
			grpc_testing.TestService_StreamingOutputCall_FullMethodName, opts...)
		return sendBoth(stream, err, last)
	}
	unaryCall := func(ctx context.Context, conn *grpc.ClientConn, last any,
		opts ...grpc.CallOption) error {
		return conn.Invoke(ctx, grpc_testing.TestService_UnaryCall_FullMethodName, last,
			&grpc_testing.SimpleResponse{}, opts...)
	}
	tests := map[string]struct {
		method string
		call   func(context.Context, *grpc.ClientConn, any, ...grpc.CallOption) error
		last   any
		opts   []grpc.CallOption
		code   codes.Code
	}{
		"too large in a client stream": {"StreamingInputCall", clientStream, large, nil,
			codes.ResourceExhausted},
		"too large in a bidi stream": {"FullDuplexCall", bidiStream, large, nil,
			codes.ResourceExhausted},
		"garbage in a client stream": {"StreamingInputCall", clientStream, small,
			[]grpc.CallOption{grpc.ForceCodec(garbage{})}, codes.InvalidArgument},
		"garbage in a unary call": {"UnaryCall", unaryCall, small,
			[]grpc.CallOption{grpc.ForceCodec(garbage{})}, codes.InvalidArgument},
		"garbage in a server stream": {"StreamingOutputCall", serverStream, small,
			[]grpc.CallOption{grpc.ForceCodec(garbage{})}, codes.InvalidArgument},
		"too large in a server stream": {"StreamingOutputCall", serverStream, large, nil,
			codes.ResourceExhausted},
		"garbage in a bidi stream": {"FullDuplexCall", bidiStream, small,
			[]grpc.CallOption{grpc.ForceCodec(garbage{})}, codes.InvalidArgument},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := defaults()
			s.server.MaxReceiveBytes = 1000
			var log telemetrytest.Log
			s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			r := s.startService(t,
				func(registrar grpc.ServiceRegistrar) {
					grpc_testing.RegisterTestServiceServer(registrar, waiting{})
				})
			for range times {
				if err := test.call(testContext(t), r.conn, test.last,
					test.opts...); status.Code(err) != test.code {
					t.Fatalf("the caller got %v", err)
				}
			}
			stop(t, r)
			if got := r.handled(t, test.method, test.code.String()); got != times {
				t.Errorf("counted %v of %d as %s", got, times, test.code)
			}
			// After the first ones the log has some of the calls, all others are left out.
			logged, right := strings.Count(log.String(), "served call"),
				strings.Count(log.String(), "code="+test.code.String())
			if logged == 0 || right != logged {
				t.Errorf("logged %v of %d calls as %s", right, logged, test.code)
			}
		})
	}
}

func sendBoth(stream grpc.ClientStream, err error, messages ...any) error {
	if err != nil {
		return err
	}
	for _, message := range messages {
		if err := stream.SendMsg(message); unlessEOF(err) != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return stream.RecvMsg(&grpc_testing.StreamingInputCallResponse{})
}

// TestCallsThatTheirCallerEndsAreCancelled keeps a handler's error that the client does not get out
// of the count.
func TestCallsThatTheirCallerEndsAreCancelled(t *testing.T) {
	r := defaults().startService(t,
		func(registrar grpc.ServiceRegistrar) {
			grpc_testing.RegisterTestServiceServer(registrar, waiting{})
		})
	ctx, cancel := context.WithCancel(testContext(t))
	stream, err := r.stub.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "it is counted", func() bool {
		return r.handled(t, "FullDuplexCall", "Canceled") == 1
	})
}
