package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestHTTPLetsARequestEndAndThenStops(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	service := serveHTTP(
		"http",
		listener,
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			_, _ = io.WriteString(w, "done")
		}),
		metricsTimes,
		time.Minute,
		slog.New(slog.DiscardHandler),
	)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.run(ctx) }()
	answer := make(chan string, 1)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	go func() {
		response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-entered
	stop()
	for {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			break // It takes no more.
		}
		_ = conn.Close()
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestHTTPDoesNotWaitForConnectionsWithoutARequest(t *testing.T) {
	for name, says := range map[string]string{"not a byte": "", "half a header": "GET / HTTP/1.1\r\nHost:"} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			const stopping = 20 * time.Second
			service := serveHTTP(
				"http",
				listener,
				http.NotFoundHandler(),
				metricsTimes,
				stopping,
				slog.New(slog.DiscardHandler),
			)
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- service.run(ctx) }()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, says); err != nil {
				t.Fatal(err)
			}
			// What comes after it is answered when it has been accepted.
			response, err := http.Get("http://" + listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			began := time.Now()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > stopping/5 {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestHTTPDropsPeersThatHoldAConnectionForNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := bytes.Repeat([]byte("x"), 64<<20) // more than the buffers of a connection have room for
	service := serveHTTP(
		"http",
		listener,
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/large" {
				_, _ = w.Write(answer)
			}
		}),
		httpTimes{
			request: 50 * time.Millisecond,
			answer:  100 * time.Millisecond,
			idle:    50 * time.Millisecond,
		},
		time.Second,
		slog.New(slog.DiscardHandler),
	)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.run(ctx) }()
	for name, request := range map[string]string{
		"says nothing":              "",
		"sends half a header":       "GET / HTTP/1.1\r\nHost:",
		"sends half a body":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx",
		"asks for nothing more":     "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"does not read its answers": "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(10 * time.Second)
			_ = conn.SetDeadline(deadline)
			if name == "does not read its answers" { // A write fails once the connection is gone.
				for err == nil && time.Now().Before(deadline) {
					time.Sleep(10 * time.Millisecond)
					_, err = io.WriteString(conn, "x")
				}
			} else if _, err = io.Copy(io.Discard, conn); err == nil {
				err = io.EOF
			}
			if timeout := net.Error(nil); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
