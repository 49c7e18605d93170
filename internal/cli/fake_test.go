package cli_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/traffic"
)

// fake is a server that knows one name, "x".
type fake struct {
	grpc_testing.UnimplementedTestServiceServer

	// hold lets EmptyCall wait, after a signal on it, for a second one to be taken.
	hold chan struct{}
	// stop ends the server as a crash does.
	stop func()

	// remove, if not nil, is called before the traffic removes anything.
	remove func(context.Context) error

	mu   sync.Mutex
	kept int // what SetUp and CleanUp of the traffic put there and remove
}

// startFake listens on address, "" for any, and returns the fake and where it is.
func startFake(t *testing.T, address string) (*fake, string) {
	t.Helper()
	f := &fake{}
	address, f.stop = clienttest.Serve(
		t,
		address,
		func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, f) },
	)
	return f, address
}

func (f *fake) UnaryCall(
	_ context.Context,
	r *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	if name := string(r.GetPayload().GetBody()); name != "x" {
		return nil, reason(codes.NotFound, "not found", "NAME_NOT_FOUND")
	}
	return &grpc_testing.SimpleResponse{Username: "x"}, nil
}

func (f *fake) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	if f.hold != nil {
		for range 2 {
			select {
			case f.hold <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
	return &grpc_testing.Empty{}, nil
}

func (f *fake) FullDuplexCall(
	s grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse],
) error {
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

func (f *fake) StreamingOutputCall(
	_ *grpc_testing.StreamingOutputCallRequest,
	s grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse],
) error {
	return s.Send(&grpc_testing.StreamingOutputCallResponse{})
}

func (f *fake) StreamingInputCall(
	s grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse],
) error {
	return s.SendAndClose(&grpc_testing.StreamingInputCallResponse{})
}

// CacheableUnaryCall adds to what is kept.
func (f *fake) CacheableUnaryCall(
	ctx context.Context,
	r *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	if f.remove != nil && r.GetResponseSize() < 0 {
		if err := f.remove(ctx); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept += int(r.GetResponseSize())
	return &grpc_testing.SimpleResponse{}, nil
}

func reason(code codes.Code, text, reason string) error {
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: "test", Reason: reason})
	if err != nil {
		return err
	}
	return s.Err()
}

// names is the client's side of the service.
type names struct {
	Calls float64 `env:"TRAFFIC_CALLS" envDefault:"0" desc:"serve: calls per second"`
}

func (n *names) Validate() error { return traffic.ValidRate("TRAFFIC_CALLS", n.Calls) }

var (
	descriptor = grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")
	errDamaged = errors.New("damaged")
)

// services are one, named "names".
func services() []cli.Service {
	n := &names{}
	return []cli.Service{{
		Name: "names", Descriptors: []protoreflect.ServiceDescriptor{descriptor}, Config: n,
		Commands: func(c *cli.Terminal) []*cobra.Command { return []*cobra.Command{findCommand(c)} },
		Check:    check,
		Traffic:  n.traffic,
		LeftBehind: func(c *cli.Terminal, instances string) string {
			return c.Examples("PROGRAM remove " + instances)
		},
		Demo: func(_ context.Context, _ cli.Connection, file string, show cli.Show) error {
			show("find", "%q in %q", "x", file)
			return nil
		},
		IsDamage: func(err error) bool { return errors.Is(err, errDamaged) },
	}}
}

// lacking is a service that no fake has.
func lacking() cli.Service {
	unimplemented := grpc_testing.File_grpc_testing_test_proto.Services().ByName(
		"UnimplementedService",
	)
	call := func(ctx context.Context, s cli.Connection) error {
		_, err := grpc_testing.NewUnimplementedServiceClient(
			s.Conn,
		).UnimplementedCall(
			ctx,
			&grpc_testing.Empty{},
		)
		return err
	}
	return cli.Service{
		Name: "lacking", Descriptors: []protoreflect.ServiceDescriptor{unimplemented},
		Commands: func(c *cli.Terminal) []*cobra.Command {
			return []*cobra.Command{
				{
					Use:   "miss",
					Short: "Call what is not there",
					RunE: c.Do(func(ctx context.Context, _ []string) error {
						return c.Call(ctx, func(s cli.Connection) error { return call(ctx, s) })
					}),
				},
			}
		},
		Check: func(s cli.Connection) []cli.Step {
			return []cli.Step{
				{Method: "UnimplementedCall", Do: func(ctx context.Context) error { return call(ctx, s) }},
			}
		},
		Traffic: func(s cli.Connection) traffic.Source {
			return traffic.Source{
				Service: unimplemented,
				SetUp:   func(ctx context.Context) error { return call(ctx, s) },
			}
		},
	}
}

func find(ctx context.Context, s cli.Connection, name string) error {
	request := &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(name)}}
	_, err := grpc_testing.NewTestServiceClient(s.Conn).UnaryCall(ctx, request)
	return err
}

func findCommand(c *cli.Terminal) *cobra.Command {
	return &cobra.Command{
		Use:     "find NAME",
		Short:   "Look a name up",
		Args:    cli.Positional(1, 1),
		Example: c.Examples("  PROGRAM find x"),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				if err := find(ctx, s, args[0]); err != nil {
					return fmt.Errorf("find %q: %w", args[0], err)
				}
				c.Note("found it")
				_, err := fmt.Fprintln(c.Stdout(), args[0])
				return err
			})
		}),
	}
}

func check(s cli.Connection) []cli.Step {
	stub := grpc_testing.NewTestServiceClient(s.Conn)
	return []cli.Step{
		{Method: "UnaryCall", Do: func(ctx context.Context) error { return find(ctx, s, "x") }},
		{Method: "StreamingOutputCall", Do: func(ctx context.Context) error {
			stream, err := stub.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}},
		{Method: "StreamingInputCall", Do: func(ctx context.Context) error {
			stream, err := stub.StreamingInputCall(ctx)
			if err != nil {
				return err
			}
			_, err = stream.CloseAndRecv()
			return err
		}},
		{Method: "FullDuplexCall", Do: func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := stub.FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}},
	}
}

// traffic keeps one thing while it runs. Its operation is repeated until its time is over, as a
// transfer is.
func (n *names) traffic(s cli.Connection) traffic.Source {
	stub := grpc_testing.NewTestServiceClient(s.Conn)
	keep := func(ctx context.Context, count int32) error {
		_, err := stub.CacheableUnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseSize: count})
		return err
	}
	return traffic.Source{
		Service: descriptor,
		Operations: []traffic.Operation{
			{Method: "EmptyCall", Rate: n.Calls, Do: func(ctx context.Context) error {
				return rpc.Resumption{}.Resume(ctx, "empty", func(ctx context.Context, _ *rpc.Attempt) error {
					_, err := stub.EmptyCall(ctx, &grpc_testing.Empty{})
					return err
				})
			}},
			{Method: "FullDuplexCall", Do: func(context.Context) error { return nil }},
		},
		SetUp:   func(ctx context.Context) error { return keep(ctx, 1) },
		CleanUp: func(ctx context.Context) error { return keep(ctx, -1) },
	}
}
