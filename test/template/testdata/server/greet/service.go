// Package greet answers GreetService.
package greet

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/greet/words"
)

// Config is what can be set.
type Config struct {
	Salutation string `env:"SALUTATION" envDefault:"Hello" desc:"what comes before a name"`
}

// Service is what the server has of GreetService.
func Service() app.Service {
	cfg := &Config{}
	return app.Service{
		Name:   "greet",
		Config: cfg,
		Open: func(_ context.Context, host app.Host) (app.Opened, error) {
			s := &service{greeter: words.Greeter{Salutation: cfg.Salutation}, draining: host.Draining}
			return app.Opened{Service: rpc.Service{
				Register: func(r grpc.ServiceRegistrar) { quartetv1.RegisterGreetServiceServer(r, s) },
				Errors: rpc.ErrorTable{Rules: []rpc.ErrorRule{
					{Is: words.ErrNoName, Code: codes.InvalidArgument, Reason: "NO_NAME"},
				}},
			}}, nil
		},
	}
}

// service answers quartet.v1.GreetService.
type service struct {
	quartetv1.UnsafeGreetServiceServer
	greeter  words.Greeter
	draining <-chan struct{}
}

// receive calls each with every message of a stream until the client has sent its last one, the
// drain begins, or the call ends.
func receive[T any](
	ctx context.Context,
	s *service,
	recv func() (*T, error),
	each func(*T) error,
) error {
	requests := rpc.Receive(ctx, recv)
	for {
		select {
		case r := <-requests:
			if r.Err != nil {
				return r.Err
			}
			if err := each(r.Message); err != nil {
				return err
			}
		case <-s.draining:
			return rpc.Stopping("the server is stopping; another one greets")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
