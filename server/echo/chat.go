package echo

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/echo/text"
)

// Chat (bidirectional) returns each message as it comes. One goroutine sends, as gRPC wants it;
// rpc.Receive has the next message ready meanwhile.
func (s *service) Chat(stream grpc.BidiStreamingServer[quartetv1.ChatRequest, quartetv1.ChatResponse]) error {
	var last *uint64 // the sequence of the message before
	requests := rpc.Receive(stream.Context(), stream.Recv)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.Err, io.EOF) {
				return nil
			}
			if r.Err != nil {
				return r.Err
			}
			sequence := r.Message.GetSequence()
			if last != nil && sequence != *last+1 {
				return fmt.Errorf("%w: message %d comes after %d", rpc.ErrMessageOrder, sequence, *last)
			}
			if err := text.Check(r.Message.GetText()); err != nil {
				return err
			}
			last = &sequence
			response := quartetv1.ChatResponse_builder{Sequence: sequence, Text: r.Message.GetText()}.Build()
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-s.draining:
			return errStopping()
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
