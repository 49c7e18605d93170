package rpc

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

func telemetryForTest() *telemetry.Telemetry { return telemetry.Discard() }

const (
	servingNow    = healthpb.HealthCheckResponse_SERVING
	notServingNow = healthpb.HealthCheckResponse_NOT_SERVING
)

func expectHealth(t *testing.T, client healthpb.HealthClient,
	want map[string]healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for name, status := range want {
		got, err := client.Check(testContext(t), &healthpb.HealthCheckRequest{Service: name})
		if err != nil || got.GetStatus() != status {
			t.Errorf("%q is %v (%v), want %v", name, got.GetStatus(), err, status)
		}
	}
	if _, err := client.Check(testContext(t),
		&healthpb.HealthCheckRequest{Service: "no.such"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown name: %v", err)
	}
}

// plain connects as the kubelet and grpcurl do: without any of our options,
// and so without waiting for health.
func plain(t *testing.T, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address,
		append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestHealthOnBothPorts(t *testing.T) {
	r := defaults().start(t, succeed)
	lis := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.server.Health().ServeProbes(ctx, lis) }()
	main := healthpb.NewHealthClient(plain(t, r.address))
	probes := healthpb.NewHealthClient(plain(t, lis.Addr().String()))

	type statuses = map[string]healthpb.HealthCheckResponse_ServingStatus
	expectHealth(t, main, statuses{"": servingNow, "grpc.testing.TestService": servingNow})
	expectHealth(t, probes, statuses{"": servingNow, Liveness: servingNow, Readiness: servingNow})
	// One service cannot do its work, and the process serves others.
	r.server.Health().SetServiceServing("grpc.testing.TestService", false)
	expectHealth(t, main, statuses{"": servingNow, "grpc.testing.TestService": notServingNow})
	expectHealth(t, probes, statuses{"": servingNow, Liveness: servingNow, Readiness: servingNow})
	r.server.Health().SetServiceServing("grpc.testing.TestService", true)
	expectHealth(t, main, statuses{"": servingNow, "grpc.testing.TestService": servingNow})
	r.server.Health().SetServing(false)
	r.server.Health().SetServiceServing("grpc.testing.TestService", true)
	expectHealth(t, main, statuses{"": notServingNow, "grpc.testing.TestService": notServingNow})
	expectHealth(t, probes, statuses{"": servingNow, Liveness: servingNow, Readiness: notServingNow})
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServerStartsNotServing(t *testing.T) {
	h := newHealth([]string{"a.Service"})
	for _, name := range []string{"", "a.Service"} {
		if got, err := h.main.Check(t.Context(),
			&healthpb.HealthCheckRequest{Service: name}); err != nil || got.GetStatus() != notServingNow {
			t.Errorf("%q is %v (%v)", name, got, err)
		}
	}
}

// TestWatchEndsWithTheDrain has a client that watches on, as every client of
// ours does, while the server stops gracefully.
func TestWatchEndsWithTheDrain(t *testing.T) {
	r := defaults().start(t, succeed)
	client := healthpb.NewHealthClient(plain(t, r.address))
	watch, err := client.Watch(testContext(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{servingNow, notServingNow} {
		if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
			t.Fatalf("got %v (%v), want %v", got, err, want)
		}
		r.server.Health().SetServing(false)
	}
	if err := r.server.GracefulStop(testContext(t)); err != nil {
		t.Error(err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

// TestBuiltInServicesDoNotHoldUpTheDrain has what grpc-go would wait for although nothing is being
// worked on: an open stream of reflection, a connection without a byte, and one whose peer stops in
// the middle of its handshake.
func TestBuiltInServicesDoNotHoldUpTheDrain(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *running){
		"a stream of reflection": func(t *testing.T, r *running) {
			stream, err := reflectionpb.NewServerReflectionClient(plain(t,
				r.address)).ServerReflectionInfo(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(listServices); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		},
		"a connection without a byte": func(t *testing.T, r *running) { dialTCP(t, r.address, "") },
		"half a handshake": func(t *testing.T,
			r *running) {
			dialTCP(t, r.address, "PRI * HTTP/2.0")
		},
		"a handshake without a call": func(t *testing.T,
			r *running) {
			dialTCP(t, r.address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := defaults().start(t, succeed)
			open(t, r)
			for r.server.silent.count.Load() == 0 && name != "a stream of reflection" {
				if testContext(t).Err() != nil {
					t.Fatal("the connection is not accepted")
				}
			}
			began := time.Now()
			if err := r.server.GracefulStop(testContext(t)); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > defaults().server.ConnectionTimeout/2 {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func dialTCP(t *testing.T, address, says string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(says)); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsThatCloseWithoutACallAreForgotten(t *testing.T) {
	r := defaults().start(t, succeed)
	for range 20 * minSilent {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	for r.server.silent.count.Load() > 10*minSilent {
		dialTCP(t, r.address, "")
		if testContext(t).Err() != nil {
			t.Fatalf("%d connections are kept", r.server.silent.count.Load())
		}
	}
}

func TestGracefulStopWaitsForCalls(t *testing.T) {
	handle, entered, release := hold()
	r := defaults().start(t, handle)
	result := make(chan error, 1)
	go func() { result <- modes[0].call(testContext(t), r.stub, 1) }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.GracefulStop(testContext(t)) }()
	release()
	if err := <-result; err != nil {
		t.Errorf("the running call: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestGracefulStopCutsCallsOff(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel() // They wait.
			entered := make(chan struct{})
			returned := false
			r := defaults().start(t, func(ctx context.Context) error {
				close(entered)
				<-ctx.Done()
				returned = true
				return ctx.Err()
			})
			result := make(chan error, 1)
			go func() { result <- mode.call(testContext(t), r.stub, 1) }()
			<-entered
			ctx, cancel := context.WithTimeout(testContext(t), 2*time.Second)
			defer cancel()
			if err := r.server.GracefulStop(ctx); err == nil {
				t.Error("a call was cut off and no error tells it")
			}
			if !returned {
				t.Error("the handler still runs")
			}
			if err := <-result; status.Code(err) != codes.Unavailable {
				t.Errorf("the client got %v", err)
			}
		})
	}
}

func TestGracefulStopLeavesDeafHandlers(t *testing.T) {
	handle, entered, release := hold()
	r := defaults().start(t, handle)
	result := make(chan error, 1)
	go func() { result <- modes[0].call(testContext(t), r.stub, 1) }()
	<-entered
	ctx, cancel := context.WithTimeout(testContext(t), 400*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.server.GracefulStop(ctx); err == nil {
		t.Error("a handler still runs and no error tells it")
	}
	if took := time.Since(began); took > handlerGrace+5*time.Second {
		t.Errorf("took %s", took)
	}
	release()
	if err := <-result; err == nil {
		t.Error("the call that was cut off succeeded")
	}
}

func TestServeAfterStop(t *testing.T) {
	s := defaults()
	server, err := NewServer(s.server, telemetryForTest(), testDomain, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.GracefulStop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(listen(t)); err != nil {
		t.Error(err)
	}
}

func TestStreamsThatTheDrainEndsCountAsNoFailures(t *testing.T) {
	for _, mode := range modes[1:] {
		t.Run(mode.name, func(t *testing.T) {
			r := defaults().start(t, func(context.Context) error {
				return fmt.Errorf("handler: %w", Stopping("another server continues"))
			})
			err := mode.call(testContext(t), r.stub, 1)
			if status.Code(err) != codes.Unavailable || Reason(err) != "STOPPING" || RetryDelay(err) <= 0 {
				t.Errorf("got %v", err)
			}
			r.wantEndedFor(t, telemetry.EndDrain)
		})
	}
}

// TestCallsThatFailAreFailures has a handler ask its client to come back because something else is
// away.
func TestCallsThatFailAreFailures(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			r := defaults().start(t, func(context.Context) error {
				return RetryAfter(codes.Unavailable, "the store is away", "STORE_AWAY", time.Second)
			})
			if err := mode.call(testContext(t), r.stub, 1); status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
			eventually(t, "it is counted", func() bool {
				return r.sum(t, map[string]string{"grpc_code": "Unavailable"}) > 0
			})
			for _, why := range []telemetry.EndReason{telemetry.EndDrain, telemetry.EndCredentials} {
				if got := r.sum(t, map[string]string{"grpc_fault": string(why)}); got != 0 {
					t.Errorf("%v calls are counted with grpc_fault=%s", got, why)
				}
			}
		})
	}
}
