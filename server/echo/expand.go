package echo

import (
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/echo/text"
)

// Expand (server streaming) returns the text word by word, from an offset on. A client that reads
// slowly holds the loop back: Send waits until the transport takes the word.
func (s *service) Expand(r *quartetv1.ExpandRequest, stream grpc.ServerStreamingServer[quartetv1.ExpandResponse]) error {
	words, err := text.Words(r.GetText(), r.GetOffset())
	if err != nil {
		return err
	}
	for i, word := range words {
		select {
		case <-s.draining:
			return errStopping()
		default:
		}
		response := quartetv1.ExpandResponse_builder{Word: word, Offset: r.GetOffset() + uint32(i)}.Build()
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}
