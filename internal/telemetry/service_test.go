package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(proxiedTests{m}) }

func testService() protoreflect.ServiceDescriptor {
	return grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")
}

// service echoes in all four modes, except where a test says otherwise.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	unary    func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error)
	download func(grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error
	upload   func(grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error
	exchange func(grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error
}

func (s *service) UnaryCall(
	ctx context.Context,
	req *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	if s.unary != nil {
		return s.unary(ctx, req)
	}
	return &grpc_testing.SimpleResponse{Payload: req.GetPayload()}, nil
}

func (s *service) StreamingOutputCall(
	req *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse],
) error {
	if s.download != nil {
		return s.download(stream)
	}
	for range req.GetResponseParameters() {
		if err := stream.Send(
			&grpc_testing.StreamingOutputCallResponse{Payload: req.GetPayload()},
		); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) StreamingInputCall(
	stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse],
) error {
	if s.upload != nil {
		return s.upload(stream)
	}
	var size int
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(
				&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)},
			)
		}
		if err != nil {
			return err
		}
		size += len(req.GetPayload().GetBody())
	}
}

func (s *service) FullDuplexCall(
	stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse],
) error {
	if s.exchange != nil {
		return s.exchange(stream)
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(
			&grpc_testing.StreamingOutputCallResponse{Payload: req.GetPayload()},
		); err != nil {
			return err
		}
	}
}

// pair is a server and a client over a loopback connection, each with its own
// telemetry.
type pair struct {
	server, client *Telemetry
	grpc           *grpc.Server
	conn           *grpc.ClientConn
	stub           grpc_testing.TestServiceClient
}

// start serves s with telemetry on both sides. The two Telemetry are prepared
// by the caller, which may have put a recorder into them.
func start(tb testing.TB, s *service, server, client *Telemetry, more ...grpc.DialOption) *pair {
	tb.Helper()
	in, out := server.NewServerCalls(testService()), client.NewClientCalls(testService())
	insecurely := insecure.NewCredentials()
	p := startWith(tb, s, []grpc.ServerOption{
		grpc.Creds(
			server.CountServerConnections(insecurely),
		),
		grpc.InTapHandle(tapOf(in)),
		grpc.UnknownServiceHandler(unimplemented),
		grpc.ChainUnaryInterceptor(
			in.UnaryInterceptor,
		),
		grpc.ChainStreamInterceptor(in.StreamInterceptor),
	}, append([]grpc.DialOption{
		grpc.WithTransportCredentials(client.CountClientConnections(insecurely)),
		grpc.WithChainUnaryInterceptor(
			out.UnaryInterceptor,
		),
		grpc.WithChainStreamInterceptor(out.StreamInterceptor),
	}, more...))
	p.server, p.client = server, client
	return p
}

// tapOf counts arrivals, as rpc does it.
func tapOf(calls *ServerCalls) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		calls.Arrived(info)
		return ctx, nil
	}
}

// startBare serves s without telemetry.
func startBare(tb testing.TB, s *service) *pair {
	tb.Helper()
	return startWith(tb, s, nil, nil)
}

// unimplemented answers for unknown methods, as rpc does it.
func unimplemented(
	any,
	grpc.ServerStream,
) error {
	return status.Error(codes.Unimplemented, "unknown")
}

func startWith(
	tb testing.TB,
	s *service,
	serverOptions []grpc.ServerOption,
	dialOptions []grpc.DialOption,
) *pair {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	insecurely := grpc.WithTransportCredentials(insecure.NewCredentials())
	p := &pair{grpc: grpc.NewServer(serverOptions...)}
	grpc_testing.RegisterTestServiceServer(p.grpc, s)
	p.conn, err = grpc.NewClient(
		lis.Addr().String(),
		append([]grpc.DialOption{insecurely}, dialOptions...)...)
	if err != nil {
		tb.Fatal(err)
	}
	p.stub = grpc_testing.NewTestServiceClient(p.conn)
	served := make(chan error, 1)
	go func() { served <- p.grpc.Serve(lis) }()
	tb.Cleanup(func() {
		p.settle()
		// A test that is over before the server began finds it stopped.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Error(err)
		}
	})
	return p
}

// settle ends both sides and waits for their handlers, so that what they
// counted stands still.
func (p *pair) settle() {
	_ = p.conn.Close()
	p.grpc.GracefulStop()
}

func payload(
	size int,
) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: make([]byte, size)}
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// callUnary, download, upload and exchange make one call of each mode: sent and
// received messages are 1/1, 1/3, 3/1 and 3/3.
func (p *pair) callUnary(ctx context.Context) error {
	_, err := p.stub.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(100)})
	return err
}

func (p *pair) download(ctx context.Context) error {
	stream, err := p.stub.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{
		Payload: payload(100), ResponseParameters: make([]*grpc_testing.ResponseParameters, 3),
	})
	for err == nil {
		_, err = stream.Recv()
	}
	return unlessEOF(err)
}

func (p *pair) upload(ctx context.Context) error {
	stream, err := p.stub.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for range 3 {
		if err := stream.Send(
			&grpc_testing.StreamingInputCallRequest{Payload: payload(100)},
		); err != nil {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (p *pair) exchange(ctx context.Context) error {
	stream, err := p.stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range 3 {
		if err := stream.Send(
			&grpc_testing.StreamingOutputCallRequest{Payload: payload(100)},
		); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err = stream.Recv()
	return unlessEOF(err)
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// modes lists the four modes with the messages a client sends and receives.
var modes = []struct {
	kind           kind
	method         string
	call           func(*pair, context.Context) error
	sent, received float64
}{
	{unary, "UnaryCall", (*pair).callUnary, 1, 1},
	{serverStream, "StreamingOutputCall", (*pair).download, 1, 3},
	{clientStream, "StreamingInputCall", (*pair).upload, 3, 1},
	{bidiStream, "FullDuplexCall", (*pair).exchange, 3, 3},
}
