package greet

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GreetEach (bidirectional) greets people as they come.
func (s *service) GreetEach(
	stream grpc.BidiStreamingServer[quartetv1.GreetEachRequest, quartetv1.GreetEachResponse],
) error {
	err := receive(stream.Context(), s, stream.Recv, func(r *quartetv1.GreetEachRequest) error {
		greeting, err := s.greeter.Greet(r.GetName())
		if err != nil {
			return err
		}
		return stream.Send(quartetv1.GreetEachResponse_builder{Greeting: greeting}.Build())
	})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
