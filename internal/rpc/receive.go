package rpc

import "context"

// Received is what one call of Recv returned.
type Received[T any] struct {
	Message *T
	Err     error
}

// Receive calls recv in a goroutine of its own until it fails, so that a handler can wait for
// something else beside its peer, and the next message arrives while the last one is worked on. The
// goroutine holds one message at most, and ends with the stream: recv fails as soon as the handler
// has returned. ctx is that of the stream.
func Receive[T any](ctx context.Context, recv func() (*T, error)) <-chan Received[T] {
	messages := make(chan Received[T])
	go func() {
		for {
			message, err := recv()
			select {
			case messages <- Received[T]{message, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return messages
}
