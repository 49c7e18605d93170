package rpc

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/quartet/internal/telemetry"
)

func TestServiceConfig(t *testing.T) {
	idempotent := &descriptorpb.MethodOptions{
		IdempotencyLevel: descriptorpb.MethodOptions_IDEMPOTENT.Enum(),
	}
	method := func(name string, in, out bool,
		options *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: proto.String(".t.M"), OutputType: proto.String(".t.M"),
			ClientStreaming: proto.Bool(in), ServerStreaming: proto.Bool(out), Options: options,
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("t.proto"), Package: proto.String("t"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"),
			Method: []*descriptorpb.MethodDescriptorProto{
				method("Get", false, false, idempotent),
				method("Put", false, false, nil),
				method("Download", false, true, idempotent),
				method("Upload", true, false, idempotent),
			}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	retry := `"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"2s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}`
	want := `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"t.S"},"methodConfig":[` +
		`{"name":[{}],"waitForReady":true},` +
		`{"name":[{"service":"t.S","method":"Get"}],"waitForReady":true,"timeout":"2.5s",` + retry +
		`},` +
		`{"name":[{"service":"t.S","method":"Put"}],"waitForReady":true,"timeout":"2.5s"},` +
		`{"name":[{"service":"t.S","method":"Download"}],"waitForReady":true,` + retry + `},` +
		`{"name":[{"service":"t.S","method":"Upload"}],"waitForReady":true}` +
		`],"retryThrottling":{"maxTokens":100,"tokenRatio":0.1}}`
	if got := serviceConfig([]protoreflect.ServiceDescriptor{file.Services().Get(0)},
		2500*time.Millisecond); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRetriesFollowTheDescriptor lets the first two attempts of each call fail.
func TestRetriesFollowTheDescriptor(t *testing.T) {
	repeatable := map[string]bool{"unary": true, "server stream": true}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
			var attempts atomic.Int32
			r := s.start(t, func(context.Context) error {
				if attempts.Add(1) <= 2 {
					return status.Error(codes.Unavailable, "restarting")
				}
				return nil
			})
			want, code := int32(1), codes.Unavailable
			if repeatable[mode.name] {
				want, code = 3, codes.OK
			}
			if err := mode.call(testContext(t), r.stub, 1); status.Code(err) != code {
				t.Errorf("got %v, want %s", err, code)
			}
			if got := attempts.Load(); got != want {
				t.Errorf("%d attempts, want %d", got, want)
			}
		})
	}
}

// TestResourceExhaustedIsRetriedOnlyIfTheServerSaysWhen has a server without room for the first two
// attempts, and one that refuses for good.
func TestResourceExhaustedIsRetriedOnlyIfTheServerSaysWhen(t *testing.T) {
	busy := RetryAfter(codes.ResourceExhausted, "no room", "OVERLOADED", time.Millisecond)
	never := status.Error(codes.ResourceExhausted, "too large")
	for name, test := range map[string]struct {
		level    bool // the method may be repeated
		refusal  error
		refusals int32
		attempts int32
		code     codes.Code
	}{
		"busy":                       {true, busy, 2, 3, codes.OK},
		"busy for long":              {true, busy, 100, 4, codes.ResourceExhausted},
		"busy, may not be repeated":  {false, busy, 2, 1, codes.ResourceExhausted},
		"never":                      {true, never, 100, 1, codes.ResourceExhausted},
		"never, may not be repeated": {false, never, 100, 1, codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			s := defaults()
			if test.level {
				s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
			}
			var attempts atomic.Int32
			r := s.start(t, func(context.Context) error {
				if attempts.Add(1) <= test.refusals {
					return test.refusal
				}
				return nil
			})
			err := modes[0].call(testContext(t), r.stub, 1)
			if got := attempts.Load(); got != test.attempts || status.Code(err) != test.code {
				t.Errorf("got %v after %d attempts", err, got)
			}
		})
	}
}

// TestAMessageThatCannotFitIsSentOnce proves it with grpc-go's own refusal, in the modes that are
// retried.
func TestAMessageThatCannotFitIsSentOnce(t *testing.T) {
	for _, mode := range modes[:2] {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.server.MaxReceiveBytes = 1000
			s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
			r := s.start(t, succeed)
			if err := mode.call(testContext(t), r.stub, 2000); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
			families, err := r.telemetry.Registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var arrived float64
			for _, family := range families {
				if family.GetName() == "grpc_server_arrived_total" {
					for _, metric := range family.GetMetric() {
						arrived += metric.GetCounter().GetValue()
					}
				}
			}
			// One more is the watch of the health.
			if arrived != 2 {
				t.Errorf("%v calls arrived", arrived)
			}
		})
	}
}

// TestBusyServersAreWaitedForWithinTheDeadline has a server that asks for more time than the call
// has.
func TestBusyServersAreWaitedForWithinTheDeadline(t *testing.T) {
	s := defaults()
	s.client.UnaryTimeout = 2 * time.Second
	s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
	r := s.start(t, func(context.Context) error {
		return RetryAfter(codes.ResourceExhausted, "no room", "OVERLOADED", 10*time.Second)
	})
	began := time.Now()
	if err := modes[0].call(testContext(t), r.stub, 1); !IsBusy(err) ||
		time.Since(began) > 8*time.Second {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
}

func TestUnaryWithoutALevelIsNotRetried(t *testing.T) {
	s := defaults()
	s.services = []protoreflect.ServiceDescriptor{withLevels(t)}
	var attempts atomic.Int32
	r := s.start(t, func(context.Context) error {
		attempts.Add(1)
		return status.Error(codes.Unavailable, "restarting")
	})
	_, err := r.stub.EmptyCall(testContext(t), &grpc_testing.Empty{})
	if status.Code(err) != codes.Unavailable || attempts.Load() != 1 {
		t.Errorf("got %v after %d attempts", err, attempts.Load())
	}
}

// TestWaitReady has a server that says it is serving only once the client got
// impatient, and so proves that clients look at health.
func TestWaitReady(t *testing.T) {
	r := defaults().start(t, succeed)
	r.server.Health().SetServing(false)
	told := 0
	err := WaitReady(testContext(t), r.conn, func(string) {
		told++
		r.server.Health().SetServing(true)
	})
	if err != nil || told != 1 {
		t.Errorf("got %v, told %d times", err, told)
	}
	if err := WaitReady(testContext(t), r.conn,
		func(string) { t.Error("told of a connection that is ready") }); err != nil {
		t.Error(err)
	}
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	r := defaults().start(t, succeed)
	r.server.Health().SetServing(false)
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	err := WaitReady(ctx, r.conn, func(string) { t.Error("told too early") })
	if err == nil || !strings.Contains(err.Error(), r.address) {
		t.Errorf("got %v", err)
	}
	_ = r.conn.Close()
	if err := WaitReady(testContext(t), r.conn, nil); err == nil {
		t.Error("a closed connection is ready")
	}
}

// TestWaitGone has a server that turns away for less than what counts as an
// absence, and later for good. Its connections grow old meanwhile.
func TestWaitGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		server, err := NewServer(s.server, telemetry.Discard(), testDomain,
			[]Service{{Register: func(r grpc.ServiceRegistrar) {
				grpc_testing.RegisterTestServiceServer(r, &service{handle: succeed})
			}}})
		if err != nil {
			t.Fatal(err)
		}
		lis := bufconn.Listen(1 << 16)
		go func() { _ = server.Serve(lis) }() // Until the test is over.
		t.Cleanup(server.grpc.Stop)
		server.Health().SetServing(true)
		conn, err := NewClient(s.client, telemetry.Discard(), "passthrough:///memory", s.services,
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
				error) {
				return lis.DialContext(ctx)
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := WaitReady(t.Context(), conn, nil); err != nil {
			t.Fatal(err)
		}

		gone := make(chan error, 1)
		go func() { gone <- WaitGone(t.Context(), conn, 2*time.Second) }()
		for _, step := range []struct {
			serving bool
			lasts   time.Duration
		}{{false, 1900 * time.Millisecond}, {true, time.Hour}, {false, 1900 * time.Millisecond}} {
			server.Health().SetServing(step.serving)
			time.Sleep(step.lasts)
			synctest.Wait()
			if len(gone) > 0 {
				t.Fatalf("gone within %v of serving: %t", step.lasts, step.serving)
			}
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if len(gone) == 0 || <-gone != nil {
			t.Error("not gone")
		}
	})
}

func TestWaitGoneEndsWithItsContext(t *testing.T) {
	r := defaults().start(t, succeed)
	for _, serving := range []bool{true, false} {
		r.server.Health().SetServing(serving)
		ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
		if err := WaitGone(ctx, r.conn, time.Minute); err == nil {
			t.Errorf("gone at once while it is serving: %t", serving)
		}
		cancel()
	}
}
