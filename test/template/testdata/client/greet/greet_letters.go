package greet

import (
	"context"
	"errors"
	"io"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GreetLetters (server streaming) greets a person by each letter of the name.
func (c *Client) GreetLetters(ctx context.Context, name string) (greetings []string, err error) {
	stream, err := c.greet.GreetLetters(ctx, quartetv1.GreetLettersRequest_builder{Name: name}.Build())
	if err != nil {
		return nil, err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return greetings, nil
		}
		if err != nil {
			return nil, err
		}
		greetings = append(greetings, response.GetGreeting())
	}
}
