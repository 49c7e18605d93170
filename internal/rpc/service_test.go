package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/quartet/internal/telemetry"
)

func TestMain(m *testing.M) {
	useForwardProxy()
	goleak.VerifyTestMain(m)
}

// service runs one function in all four modes, so that a test says once what
// a handler does.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	handle func(ctx context.Context) error
}

func (s *service) EmptyCall(
	ctx context.Context, _ *grpc_testing.Empty,
) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, s.handle(ctx)
}

func (s *service) UnaryCall(
	ctx context.Context, _ *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{}, s.handle(ctx)
}

func (s *service) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	return s.handle(stream.Context())
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := s.handle(stream.Context()); err != nil {
		return err
	}
	return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{})
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return s.handle(stream.Context())
}

// modes calls the service in each mode with a body of size bytes and returns
// the status as an error.
var modes = []struct {
	name string
	call func(ctx context.Context, stub grpc_testing.TestServiceClient, size int) error
}{
	{"unary", func(ctx context.Context, stub grpc_testing.TestServiceClient, size int) error {
		_, err := stub.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(size)})
		return err
	}},
	{"server stream", func(ctx context.Context, stub grpc_testing.TestServiceClient, size int) error {
		stream, err := stub.StreamingOutputCall(ctx,
			&grpc_testing.StreamingOutputCallRequest{Payload: payload(size)})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return unlessEOF(err)
	}},
	{"client stream", func(ctx context.Context, stub grpc_testing.TestServiceClient, size int) error {
		stream, err := stub.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(size)}); unlessEOF(err) != nil {
			return err
		}
		_, err = stream.CloseAndRecv()
		return err
	}},
	{"bidi stream", func(ctx context.Context, stub grpc_testing.TestServiceClient, size int) error {
		stream, err := stub.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(size)}); unlessEOF(err) != nil {
			return err
		}
		_, err = stream.Recv()
		return unlessEOF(err)
	}},
}

func payload(size int) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: make([]byte, size)}
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// setup is what a test changes before it starts a server and a client.
type setup struct {
	server   ServerConfig
	client   ClientConfig
	errs     ErrorTable
	services []protoreflect.ServiceDescriptor
	// messageBytes are the limits of methods.
	messageBytes map[string]int
	nameKinds    []string
	log          *slog.Logger
	tracer       trace.Tracer  // of the server, if not nil
	prepare      func(*Server) // is called before the server serves, if it is not nil
}

func defaults() setup {
	return setup{
		server: ServerConfig{
			MaxConnectionAge: 30 * time.Second, KeepaliveTime: 30 * time.Second,
			KeepaliveTimeout: 10 * time.Second,
			KeepaliveMinTime: 10 * time.Second, MaxConcurrentStreams: 250, MaxInFlight: 1000,
			MaxConnections: 1000, MaxReceiveBytes: 4 << 20,
			ConnectionTimeout: 10 * time.Second, FirstMessageTimeout: 10 * time.Second,
			SendTimeout: 10 * time.Second, Reflection: true,
		},
		client: ClientConfig{
			KeepaliveTime: 30 * time.Second, KeepaliveTimeout: 10 * time.Second,
			UnaryTimeout: 10 * time.Second, MaxReceiveBytes: 4 << 20, ResolveInterval: 5 * time.Second,
		},
		errs:     testTable,
		services: []protoreflect.ServiceDescriptor{grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")},
		log:      slog.New(slog.DiscardHandler),
	}
}

// running is a server that says it is serving, and a client of it.
type running struct {
	server    *Server
	telemetry *telemetry.Telemetry // the server's
	address   string
	conn      *grpc.ClientConn
	stub      grpc_testing.TestServiceClient
}

func (s setup) start(t testing.TB, handle func(context.Context) error) *running {
	t.Helper()
	return s.startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, &service{handle: handle})
	})
}

func (s setup) startService(t testing.TB, register func(grpc.ServiceRegistrar)) *running {
	t.Helper()
	r := &running{telemetry: telemetry.Discard()}
	r.telemetry.Log = s.log
	if s.tracer != nil {
		r.telemetry.Tracer = s.tracer
	}
	var err error
	r.server, err = NewServer(s.server, r.telemetry, testDomain,
		[]Service{{Errors: s.errs, MessageBytes: s.messageBytes, NameKinds: s.nameKinds,
			Register: register}})
	if err != nil {
		t.Fatal(err)
	}
	if s.prepare != nil {
		s.prepare(r.server)
	}
	lis := listen(t)
	r.address = lis.Addr().String()
	r.conn = s.dial(t, r.address)
	r.stub = grpc_testing.NewTestServiceClient(r.conn)
	r.server.Health().SetServing(true)
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(lis) }()
	t.Cleanup(func() {
		_ = r.conn.Close()
		r.server.grpc.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (s setup) dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := NewClient(s.client, telemetry.Discard(), address, s.services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// handled is how many calls of a method the server has ended with a code.
func (r *running) handled(t testing.TB, method, code string) float64 {
	t.Helper()
	return r.sum(t, map[string]string{"grpc_method": method, "grpc_code": code})
}

// faults is how many calls of a method have ended by the fault of their client.
func (r *running) faults(t testing.TB, method string) float64 {
	t.Helper()
	return r.sum(t, map[string]string{"grpc_method": method, "grpc_fault": "client"})
}

// wantEndedFor checks that all calls that the server has ended with UNAVAILABLE, and there is one,
// are counted under the reason for it, so that none of them counts as a failure.
func (r *running) wantEndedFor(t *testing.T, why telemetry.EndReason) {
	t.Helper()
	eventually(t, "the end is counted", func() bool {
		return r.sum(t, map[string]string{"grpc_code": "Unavailable"}) > 0
	})
	all := r.sum(t, map[string]string{"grpc_code": "Unavailable"})
	if got := r.sum(t, map[string]string{
		"grpc_code": "Unavailable", "grpc_fault": string(why),
	}); got < all {
		t.Errorf("%v of %v calls that ended with UNAVAILABLE are counted with grpc_fault=%s", got, all, why)
	}
}

// sum adds up the calls that have ended, of all series with the labels.
func (r *running) sum(t testing.TB, want map[string]string) (sum float64) {
	t.Helper()
	return r.sumOf(t, "grpc_server_handled_total", want)
}

// sumOf adds up a counter, of all series with the labels.
func (r *running) sumOf(t testing.TB, name string, want map[string]string) (sum float64) {
	t.Helper()
	families, err := r.telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			matching := 0
			for _, label := range metric.GetLabel() {
				if want[label.GetName()] == label.GetValue() && label.GetValue() != "" {
					matching++
				}
			}
			if matching == len(want) {
				sum += metric.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 30 s: %s", what)
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func succeed(context.Context) error { return nil }

// listServices asks reflection for the names of all services.
var listServices = &reflectionpb.ServerReflectionRequest{
	MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
}

// withLevels is the test service with idempotency levels, which its .proto
// does not have: UnaryCall and StreamingOutputCall may be repeated.
func withLevels(t *testing.T) protoreflect.ServiceDescriptor {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(grpc_testing.File_grpc_testing_test_proto)
	for _, method := range file.GetService()[0].GetMethod() {
		switch method.GetName() {
		case "UnaryCall":
			method.Options = &descriptorpb.MethodOptions{
				IdempotencyLevel: descriptorpb.MethodOptions_IDEMPOTENT.Enum(),
			}
		case "StreamingOutputCall":
			method.Options = &descriptorpb.MethodOptions{
				IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum(),
			}
		}
	}
	descriptor, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return descriptor.Services().ByName("TestService")
}
