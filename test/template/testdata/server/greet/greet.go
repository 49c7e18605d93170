package greet

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// Greet (unary) greets one person.
func (s *service) Greet(
	_ context.Context,
	r *quartetv1.GreetRequest,
) (*quartetv1.GreetResponse, error) {
	greeting, err := s.greeter.Greet(r.GetName())
	if err != nil {
		return nil, err
	}
	return quartetv1.GreetResponse_builder{Greeting: greeting}.Build(), nil
}
