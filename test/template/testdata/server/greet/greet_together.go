package greet

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GreetTogether (client streaming) greets several people at once.
func (s *service) GreetTogether(
	stream grpc.ClientStreamingServer[quartetv1.GreetTogetherRequest, quartetv1.GreetTogetherResponse],
) error {
	var names []string
	err := receive(stream.Context(), s, stream.Recv, func(r *quartetv1.GreetTogetherRequest) error {
		names = append(names, r.GetName())
		return nil
	})
	if !errors.Is(err, io.EOF) {
		return err
	}
	greeting, err := s.greeter.Greet(names...)
	if err != nil {
		return err
	}
	return stream.SendAndClose(quartetv1.GreetTogetherResponse_builder{Greeting: greeting}.Build())
}
