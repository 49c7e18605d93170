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

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// connectFrom opens a connection from an address of the loopback network, and tells whether it stays open.
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
	if _, err := probe.Check(testContext(t), &healthpb.HealthCheckRequest{Service: Liveness}); err != nil {
		t.Error(err)
	}
}
