// Package clienttest is what tests of clients share: servers that tests write themselves,
// connections as programs make them, a proxy that cuts these, and a collector of spans.
package clienttest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Serve has services answer on an address, "" for any, and says that they are serving. It returns
// where that is. stop ends the server as a crash does, and so does the end of the test.
func Serve(
	t testing.TB, address string, register func(grpc.ServiceRegistrar),
) (target string, stop func()) {
	t.Helper()
	if address == "" {
		// A test may give the address of a server that it has stopped, to start another one there.
		address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	// It is grpc-go as it comes, without the limits and interceptors of the programs, so that a test
	// decides what a client sees.
	server := grpc.NewServer()
	register(server)
	// Connections of rpc.NewClient check the health of a server, and send no calls to one that does
	// not say SERVING.
	healthy := health.NewServer()
	for service := range server.GetServiceInfo() {
		healthy.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(server, healthy)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		// Stop may be called again after the test has called it.
		server.Stop()
		// A test may be over before the server has begun to serve.
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return listener.Addr().String(), server.Stop
}

// Raw is a connection on which a test says what no library would. Reading and writing end after
// 20 s, and it is closed with the test.
func Raw(t *testing.T, address, says string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, says); err != nil {
		t.Fatal(err)
	}
	return conn
}

// UntilClosed reads what a peer says on a connection of Raw before it closes it.
func UntilClosed(t *testing.T, from io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(from)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open after %q", text)
	}
	return string(text)
}

// quickly connects again at once, where a program would wait a second first.
var quickly = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff: backoff.Config{
		// The pauses grow from 1 ms by half each time, to 100 ms.
		BaseDelay: time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond,
	},
	MinConnectTimeout: 5 * time.Second,
})

// Dial connects to services as the programs do, with shorter pauses between tries.
func Dial(
	t testing.TB, tele *telemetry.Telemetry, address string,
	services ...protoreflect.ServiceDescriptor,
) *grpc.ClientConn {
	t.Helper()
	// The defaults of ClientConfig are those of the programs, so that tests see their retries and
	// limits.
	var cfg rpc.ClientConfig
	if err := config.Load("TEST_", nil, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.NewClient(cfg, tele, address, services, quickly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// FastRetries is a resumption with pauses of a millisecond, for servers that recover at once.
func FastRetries() rpc.Resumption { return rpc.Resumption{RetryDelay: time.Millisecond} }

// FewRetries is a resumption for servers that stay broken: it gives up after the third try.
func FewRetries() rpc.Resumption {
	return rpc.Resumption{RetryDelay: time.Millisecond, MaxTries: 3}
}

// CutSoon is a resumption for servers that hang: a stream without progress for 100 ms counts as
// broken.
func CutSoon() rpc.Resumption {
	resumption := FewRetries()
	resumption.StallTimeout = 100 * time.Millisecond
	return resumption
}

// Deadline is a context for calls that must not hang a test.
func Deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Random is content that is the same for the same seed.
func Random(seed byte, size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content) // It never fails.
	return content
}
