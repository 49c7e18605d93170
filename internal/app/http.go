package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// httpTimes bound how long a peer can hold a connection by sending its request slowly, by not
// reading the answer, and by asking for nothing more. 0 is no bound.
type httpTimes struct{ request, answer, idle time.Duration }

var (
	// A scrape has to be done before the next one. A connection that Prometheus scrapes less often is
	// opened anew.
	metricsTimes = httpTimes{request: 10 * time.Second, answer: 30 * time.Second, idle: time.Minute}
	// A profile takes as long as it is asked to.
	profileTimes = httpTimes{request: 10 * time.Second, idle: time.Minute}
)

// serveHTTP is a part that answers on lis until it is told to stop, and then lets the requests
// under way end in half of the time that parts have for stopping; what is left of them is cut.
// Connections that have brought no request are closed at once: to Shutdown they may be about to.
func serveHTTP(
	name string,
	lis net.Listener,
	handler http.Handler,
	times httpTimes,
	stopping time.Duration,
	log *slog.Logger,
) part {
	server := &http.Server{
		Handler:      handler,
		ReadTimeout:  times.request,
		WriteTimeout: times.answer,
		IdleTimeout:  times.idle,
		// Enough for Prometheus, kubectl port-forward and browsers; Go's default is 1 MiB for each
		// request.
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       telemetry.StandardLog(log, name, slog.LevelWarn),
	}
	return part{name, func(ctx context.Context) error {
		var silent sync.Map // connections
		// net/http calls this from the goroutines of all connections, with StateNew first.
		server.ConnState = func(conn net.Conn, state http.ConnState) {
			silent.Delete(conn)
			if state == http.StateNew {
				silent.Store(conn, nil)
			}
			// A connection that was accepted after closeAll below has run must not hold up Shutdown either.
			if ctx.Err() != nil {
				closeAll(&silent)
			}
		}
		stopped := make(chan struct{})
		unused := context.AfterFunc(ctx, func() {
			defer close(stopped)
			closeAll(&silent)
			// The context is done already; the time for the end needs one that is not.
			shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping/2)
			defer cancel()
			if server.Shutdown(shutdown) != nil {
				_ = server.Close() // What did not end by itself has no more time.
			}
		})
		// If Serve fails by itself there is nothing to shut down.
		defer unused()
		// The connections of operators are few; the bound keeps a flood of them away from the metrics.
		if err := server.Serve(rpc.OperatorBounds.Bound(lis, nil)); !errors.Is(err,
			http.ErrServerClosed) {
			return err
		}
		// Serve returns as soon as Shutdown begins, while answers are still being written.
		<-stopped
		return nil
	}}
}

// closeAll closes connections on which no request has come, so that none is lost.
func closeAll(conns *sync.Map) {
	for conn := range conns.Range {
		_ = conn.(net.Conn).Close() // It has carried nothing.
	}
}
