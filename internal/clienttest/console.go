package clienttest

import (
	"context"
	"net"
	"net/http"
	"testing"

	"example.com/quartet/internal/console"
)

// ServeConsole serves a console on a free loopback port until the test is over, and returns its
// address, host:port. Serve has to end without an error.
func ServeConsole(t testing.TB, options console.Options) (address string) {
	t.Helper()
	c, err := console.New(options)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// It is not t.Context, which is done before the cleanup: Serve ends when the cleanup says so.
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, lis) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		// Connections that the test's requests have left idle would show as leaked goroutines.
		http.DefaultClient.CloseIdleConnections()
	})
	return lis.Addr().String()
}
