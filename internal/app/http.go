package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"example.com/quartet/internal/telemetry"
)

// serveHTTP is a part that answers on lis until it is told to stop, and then lets the requests under way end in half of
// the time that parts have for stopping; what is left of them is cut. Header
// timeouts are short, so that a peer which only opens connections cannot hold them; bodies may take their time.
func serveHTTP(lis net.Listener, handler http.Handler, stopping time.Duration, log *slog.Logger) part {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          telemetry.StandardLog(log, "http", slog.LevelWarn),
	}
	return part{"http", func(ctx context.Context) error {
		stopped := make(chan struct{})
		unused := context.AfterFunc(ctx, func() {
			defer close(stopped)
			shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping/2)
			defer cancel()
			if server.Shutdown(shutdown) != nil {
				_ = server.Close() // What did not end by itself has no more time.
			}
		})
		defer unused()
		if err := server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-stopped
		return nil
	}}
}
