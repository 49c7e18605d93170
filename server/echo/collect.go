package echo

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/echo/text"
)

// Collect (client streaming) returns the text that the words make. It waits for the next word, for
// the drain, and for the end of the call at the same time.
func (s *service) Collect(stream grpc.ClientStreamingServer[quartetv1.CollectRequest, quartetv1.CollectResponse]) error {
	var collected text.Builder
	requests := rpc.Receive(stream.Context(), stream.Recv)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.Err, io.EOF) {
				all, count := collected.Text()
				return stream.SendAndClose(quartetv1.CollectResponse_builder{Text: all, Count: count}.Build())
			}
			if r.Err != nil {
				return r.Err
			}
			if err := collected.Add(r.Message.GetWord()); err != nil {
				return err
			}
		case <-s.draining:
			return errStopping()
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
