package rpc

import (
	"context"
	"log/slog"
)

// Received is what one call of Recv returned.
type Received[T any] struct {
	Message *T
	Err     error
}

// Receive calls recv in a goroutine of its own until it fails, so that a handler can wait for
// something else beside its peer, and the next message arrives while the last one is worked on. The
// goroutine holds one message at most, and ends with the stream, also without another value: so the
// handler has to wait for the end of ctx, too. A panic in recv is an error, as by Recovered. ctx is
// that of the stream.
func Receive[T any](ctx context.Context, recv func() (*T, error)) <-chan Received[T] {
	messages := make(chan Received[T])
	go func() {
		for {
			var r Received[T]
			r.Err = Recovered(ctx, func() (err error) {
				r.Message, err = recv()
				return err
			})
			select {
			case messages <- r:
			case <-ctx.Done():
				return
			}
			if r.Err != nil {
				return
			}
		}
	}()
	return messages
}

// Recovered runs a part of a handler that is in a goroutine of its own, where a panic would end the
// whole process. It logs a panic and returns it as the error, which the handler has to return: then
// the call ends like one whose handler has panicked, with INTERNAL. ctx is that of the stream.
func Recovered(ctx context.Context, part func() error) (err error) {
	log := slog.Default()
	if a, ok := ctx.Value(admissionKey{}).(*admission); ok {
		log = a.log
	}
	defer recoverTo(ctx, log, &err)
	return part()
}
