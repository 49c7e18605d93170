package rpc

import (
	"context"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func textLog(out io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(out, nil)) }

// stop ends the client and then the server, whose handlers have all returned
// after it.
func stop(t *testing.T, r *running) {
	t.Helper()
	_ = r.conn.Close()
	if err := r.server.GracefulStop(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestPanicInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			var log strings.Builder
			s.log = textLog(&log)
			healthy := false
			r := s.start(t, func(context.Context) error {
				if !healthy {
					panic(errMissing) // a sentinel must not turn a panic into a mere NOT_FOUND
				}
				return nil
			})
			st := status.Convert(mode.call(testContext(t), r.stub, 1))
			if st.Code() != codes.Internal || st.Message() != internalText {
				t.Errorf("got %v", st)
			}
			healthy = true
			if err := mode.call(testContext(t), r.stub, 1); err != nil {
				t.Errorf("the next call: %v", err)
			}
			stop(t, r)
			if !strings.Contains(log.String(), errMissing.Error()) ||
				!strings.Contains(log.String(), "service_test.go") {
				t.Errorf("the log has no panic with its stack: %s", &log)
			}
		})
	}
}

// hold is a handler that waits until it is released, ignoring its context.
func hold() (handle func(context.Context) error, entered chan struct{}, release func()) {
	entered, released := make(chan struct{}, 100), make(chan struct{})
	return func(context.Context) error {
		entered <- struct{}{}
		<-released
		return nil
	}, entered, func() { close(released) }
}

func TestLoadIsShedInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.server.MaxInFlight = 1
			handle, entered, release := hold()
			r := s.start(t, handle)
			first := make(chan error, 1)
			go func() { first <- mode.call(testContext(t), r.stub, 1) }()
			<-entered

			st := status.Convert(mode.call(testContext(t), r.stub, 1))
			if st.Code() != codes.ResourceExhausted || errorInfo(st).GetReason() != "OVERLOADED" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			if err := checkHealth(t, r); err != nil {
				t.Errorf("a health check was shed: %v", err)
			}
			release()
			if err := <-first; err != nil {
				t.Errorf("the first call: %v", err)
			}
		})
	}
}

// checkHealth asks over a connection of its own.
func checkHealth(t *testing.T, r *running) error {
	t.Helper()
	_, err := healthpb.NewHealthClient(plain(t, r.address)).Check(testContext(t),
		&healthpb.HealthCheckRequest{})
	return err
}

func TestShedCallsSayWhenToComeBack(t *testing.T) {
	s := defaults()
	s.server.MaxInFlight = 1
	handle, entered, release := hold()
	r := s.start(t, handle)
	first := make(chan error, 1)
	go func() { first <- modes[0].call(testContext(t), r.stub, 1) }()
	<-entered

	var trailer metadata.MD
	_, err := r.stub.EmptyCall(testContext(t), &grpc_testing.Empty{}, grpc.Trailer(&trailer))
	var delay time.Duration
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			delay = retry.GetRetryDelay().AsDuration()
		}
	}
	if delay < 250*time.Millisecond || delay > 750*time.Millisecond {
		t.Errorf("RetryInfo says %s", delay)
	}
	want := strconv.FormatInt(delay.Milliseconds(), 10)
	if got := trailer.Get("grpc-retry-pushback-ms"); len(got) != 1 || got[0] != want {
		t.Errorf("the trailer says %v, want %s", got, want)
	}
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestShedCallsAreRetried proves that grpc-go's retries and our pushback fit
// together: the second call is refused, at least once, and then served.
func TestShedCallsAreRetried(t *testing.T) {
	s := defaults()
	s.server.MaxInFlight = 1
	s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
	handle, entered, release := hold()
	r := s.start(t, handle)
	both := make(chan error, 2)
	call := func() { both <- modes[0].call(testContext(t), r.stub, 1) }
	go call()
	<-entered
	go call()
	eventually(t, "the second call is shed",
		func() bool { return r.handled(t, "UnaryCall", "ResourceExhausted") >= 1 })
	release()
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
}

func TestOversizedMessageInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.server.MaxReceiveBytes = 1000
			r := s.start(t, succeed)
			if err := mode.call(testContext(t), r.stub, 900); err != nil {
				t.Errorf("a message that fits: %v", err)
			}
			if err := mode.call(testContext(t), r.stub, 1001); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUnknownMethods(t *testing.T) {
	r := defaults().start(t, succeed)
	for _, method := range []string{"/grpc.testing.TestService/Missing", "/no.such.Service/Method"} {
		err := plain(t, r.address).Invoke(testContext(t), method, &grpc_testing.Empty{},
			&grpc_testing.Empty{})
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), method) {
			t.Errorf("%s: got %v", method, err)
		}
	}
	stop(t, r)
	if got := r.handled(t, "other", "Unimplemented"); got != 2 {
		t.Errorf("counted %v unknown calls, want 2", got)
	}
}

func TestDeadlineInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			r := defaults().start(t, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
			ctx, cancel := context.WithTimeout(testContext(t), 30*time.Millisecond)
			defer cancel()
			if err := mode.call(ctx, r.stub, 1); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUnaryCallsHaveADeadline(t *testing.T) {
	s := defaults()
	s.client.UnaryTimeout = 30 * time.Millisecond
	r := s.start(t, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err := modes[0].call(testContext(t), r.stub, 1); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

// TestReflection asks as grpcurl does.
func TestReflection(t *testing.T) {
	r := defaults().start(t, succeed)
	stream, err := reflectionpb.NewServerReflectionClient(plain(t,
		r.address)).ServerReflectionInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(listServices); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range reply.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	want := []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
		"grpc.reflection.v1alpha.ServerReflection", "grpc.testing.TestService"}
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestServicesNeedDescriptors(t *testing.T) {
	_, err := NewServer(defaults().server, telemetryForTest(), testDomain,
		[]Service{{Register: func(registrar grpc.ServiceRegistrar) {
			registrar.RegisterService(&grpc.ServiceDesc{ServiceName: "no.such.Service"}, nil)
		}}})
	if err == nil || !strings.Contains(err.Error(), "no.such.Service") {
		t.Errorf("got %v", err)
	}
}

// TestKeepaliveDefaultsFit keeps our clients from being cut off by our servers
// with "too_many_pings".
func TestKeepaliveDefaultsFit(t *testing.T) {
	least := defaultOf[ServerConfig](t, "KeepaliveMinTime")
	if ping := defaultOf[ClientConfig](t, "KeepaliveTime"); ping < least || ping < minPing {
		t.Errorf("clients ping every %s, servers allow %s, grpc-go %s", ping, least, minPing)
	}
}

func defaultOf[T any](t *testing.T, name string) time.Duration {
	t.Helper()
	field, _ := reflect.TypeFor[T]().FieldByName(name)
	d, err := time.ParseDuration(field.Tag.Get("envDefault"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
