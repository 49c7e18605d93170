package main

import "context"

// received is what one call of Recv, or of whatever else is waited for, returned.
type received[T any] struct {
	message *T
	err     error
}

// receive calls recv in a goroutine of its own until it fails, so that a handler can wait for something else beside its
// peer or its subscription, and the next message arrives while the last one is worked on. The goroutine holds one message at most, and ends
// with the stream: recv fails as soon as the handler has returned.
func receive[T any](ctx context.Context, recv func() (*T, error)) <-chan received[T] {
	messages := make(chan received[T])
	go func() {
		for {
			message, err := recv()
			select {
			case messages <- received[T]{message, err}:
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
