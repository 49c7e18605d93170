package rpc

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/config"
)

// connectFrom opens a connection from an address of the loopback network, and tells whether it
// stays open.
func connectFrom(t *testing.T, from, to string) (conn net.Conn, admitted bool) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	greeting := make([]byte, 1)
	_, err = io.ReadFull(conn, greeting)
	return conn, err == nil
}

func TestConnectionsBeyondTheBoundsAreClosedAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	var refused atomic.Int64
	lis := Bounds{All: 5, PerCaller: 2}.Bound(listen(t), func(net.Addr) { refused.Add(1) })
	go func() { // It greets what it accepts.
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	defer lis.Close()
	address := lis.Addr().String()
	var first net.Conn
	for i, want := range []struct {
		from     string
		admitted bool
	}{
		{"127.0.0.2", true}, {"127.0.0.2", true}, {"127.0.0.2", false},
		{"127.0.0.3", true}, {"127.0.0.3", true}, {"127.0.0.4", true}, {"127.0.0.5", false},
	} {
		conn, admitted := connectFrom(t, want.from, address)
		if admitted != want.admitted {
			t.Fatalf("connection %d, from %s, is admitted: %t", i, want.from, admitted)
		}
		if first == nil {
			first = conn
		}
	}
	if refused.Load() != 2 {
		t.Errorf("%d were reported, want 2", refused.Load())
	}
	_ = first.Close()
	eventually(t, "the place of a connection that was closed is free", func() bool {
		_, admitted := connectFrom(t, "127.0.0.2", address)
		return admitted
	})
}

func TestAServerCountsConnectionsThatItRefuses(t *testing.T) {
	s := defaults()
	s.server.MaxConnections = 1
	r := s.start(t, func(context.Context) error { return nil })
	if err := modes[0].call(testContext(t), r.stub, 1); err != nil { // It keeps its connection.
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("a connection too many was sent %d bytes", n)
	}
	eventually(t, "it is counted", func() bool { return r.failedHandshakes(t)["too_many"] == 1 })
}

func TestRequestsOfHealthAreSmall(t *testing.T) {
	r := defaults().start(t, func(context.Context) error { return nil })
	health := healthpb.NewHealthClient(plain(t, r.address))
	request := &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 2<<10)}
	stream, err := health.Watch(testContext(t), request)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a watch of a long name got %v", err)
	}

	probes := NewProbes()
	lis := listen(t)
	go func() { _ = probes.Serve(t.Context(), lis) }()
	probe := healthpb.NewHealthClient(plain(t, lis.Addr().String()))
	if _, err := probe.Check(testContext(t), request); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a probe of a long name got %v", err)
	}
	if _, err := probe.Check(testContext(t),
		&healthpb.HealthCheckRequest{Service: Liveness}); err != nil {
		t.Error(err)
	}
}

// A handler that never reads, with the window that a server has by default.
func TestAStreamThatIsNotReadHoldsLittle(t *testing.T) {
	cfg, err := config.Defaults[ServerConfig]()
	if err != nil {
		t.Fatal(err)
	}
	s := defaults()
	s.server.StreamWindowBytes = cfg.StreamWindowBytes
	release := make(chan struct{})
	r := s.startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, &unread{release: release})
	})
	defer close(release)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	stream, err := grpc_testing.NewTestServiceClient(plain(t, r.address)).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What was not sent after a while will never be: the test fails only if more than that is on its
	// way.
	const size, most = 16 << 10, 256 << 10 // The client has a buffer of 64 KiB too.
	var sent atomic.Int64
	go func() {
		for stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: make([]byte, size)}}) == nil {
			sent.Add(size)
		}
	}()
	eventually(t, "the window is full",
		func() bool { return sent.Load() >= int64(cfg.StreamWindowBytes) })
	time.Sleep(100 * time.Millisecond)
	if n := sent.Load(); n > most {
		t.Errorf("%d bytes were sent to a handler that reads nothing, want at most %d", n, most)
	}
}

type unread struct {
	grpc_testing.UnimplementedTestServiceServer
	release chan struct{}
}

func (u *unread) FullDuplexCall(grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest,
	grpc_testing.StreamingOutputCallResponse]) error {
	<-u.release
	return nil
}
