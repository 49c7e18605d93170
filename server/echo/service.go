// Package echo answers EchoService, the smallest service that shows all four modes: one file per
// RPC, to be read first and copied. It is stateless, so that it needs neither a backend nor
// settings.
package echo

import (
	"context"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
)

// Service is what the server has of EchoService.
func Service() app.Service {
	return app.Service{
		Name: "echo",
		Open: func(_ context.Context, host app.Host) (app.Opened, error) {
			s := &service{draining: host.Draining}
			return app.Opened{Service: rpc.Service{
				Register: func(r grpc.ServiceRegistrar) { quartetv1.RegisterEchoServiceServer(r, s) },
				Errors:   errorTable,
				// A text that is somewhat too long is told so by the handler.
				MessageBytes: map[string]int{"Echo": messageBytes, "Expand": messageBytes, "Collect": messageBytes, "Chat": messageBytes},
			}}, nil
		},
	}
}

// messageBytes is twice the longest text.
const messageBytes = 128 << 10

// service answers quartet.v1.EchoService.
type service struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks the
	// build until it is written.
	quartetv1.UnsafeEchoServiceServer

	// draining is closed when the server is about to stop: streams that wait for their client end
	// then.
	draining <-chan struct{}
}

// errStopping sends a client to another server.
func errStopping() error {
	return rpc.Stopping("the server is stopping; another one continues the stream")
}
