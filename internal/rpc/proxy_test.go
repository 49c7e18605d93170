package rpc

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/interop/grpc_testing"
)

// forwardProxy is what HTTPS_PROXY names in all tests of this package. Only its own test has a
// server there.
var forwardProxy net.Listener

func useForwardProxy() {
	var err error
	if forwardProxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	// It fails for malformed names only.
	_ = os.Setenv("HTTPS_PROXY", "http://"+forwardProxy.Addr().String())
}

// TestAProxyThatHangsUpIsNamed expects that nothing is said of servers, which were not asked.
func TestAProxyThatHangsUpIsNamed(t *testing.T) {
	listener := forwardProxy.(*net.TCPListener)
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.SetDeadline(time.Now()) // It stays open for other tests.
		<-hungUp
		_ = listener.SetDeadline(time.Time{})
	})
	s := defaults()
	s.client.Proxy = true
	names := startNameServer(t, "127.0.0.1")
	conn := s.dial(t, "dns://"+names.conn.LocalAddr().String()+"/replicas.test.:1")
	ctx, cancel := context.WithTimeout(testContext(t), 1500*time.Millisecond)
	defer cancel()
	if err := WaitReady(ctx, conn, nil); err == nil ||
		!strings.HasSuffix(err.Error(), "; the proxy did so") {
		t.Errorf("got %v", err)
	}
}

// TestProxyIsAskedFor calls a server by a name that NO_PROXY does not except.
func TestProxyIsAskedFor(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		r := defaults().start(t, succeed)
		_, port, _ := net.SplitHostPort(r.address)
		names := startNameServer(t, "127.0.0.1")
		s := defaults()
		s.client.Proxy = proxy
		conn := s.dial(t, "dns://"+names.conn.LocalAddr().String()+"/replicas.test.:"+port)

		asked := make(chan string, 1)
		server := &http.Server{ReadHeaderTimeout: time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case asked <- r.Method + " " + r.Host:
				default:
				}
				w.WriteHeader(http.StatusForbidden)
			})}
		if proxy {
			go func() { _ = server.Serve(forwardProxy) }() // Until it is closed.
			t.Cleanup(func() { _ = server.Close() })
		}
		called := make(chan error, 1)
		go func() {
			_, err := grpc_testing.NewTestServiceClient(conn).EmptyCall(testContext(t),
				&grpc_testing.Empty{})
			called <- err
		}()
		select {
		case err := <-called:
			if err != nil || proxy {
				t.Errorf("proxy %t: got %v", proxy, err)
			}
		case got := <-asked:
			if want := "CONNECT replicas.test.:" + port; got != want || !proxy {
				t.Errorf("proxy %t: asked to %q", proxy, got)
			}
			_ = conn.Close()
			if err := <-called; err == nil {
				t.Error("called past the proxy")
			}
		}
	}
}
