package lifecycle

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// HTTP is a service that answers on lis until it is told to stop, and then lets
// the requests under way end. Header timeouts are short, since those who only
// open connections should not be able to hold them; bodies may take their time.
func HTTP(name string, lis net.Listener, handler http.Handler) Service {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	return Service{Name: name, Run: func(ctx context.Context) error {
		stopped := make(chan struct{})
		unused := context.AfterFunc(ctx, func() {
			defer close(stopped)
			shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
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
