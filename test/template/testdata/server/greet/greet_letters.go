package greet

import (
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/greet/words"
)

// GreetLetters (server streaming) greets a person by each letter of the name.
func (s *service) GreetLetters(
	r *quartetv1.GreetLettersRequest,
	stream grpc.ServerStreamingServer[quartetv1.GreetLettersResponse],
) error {
	if r.GetName() == "" {
		return words.ErrNoName
	}
	for _, letter := range r.GetName() {
		greeting, err := s.greeter.Greet(string(letter))
		if err != nil {
			return err
		}
		response := quartetv1.GreetLettersResponse_builder{Greeting: greeting}.Build()
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}
