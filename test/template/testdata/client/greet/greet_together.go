package greet

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GreetTogether (client streaming) greets several people at once.
func (c *Client) GreetTogether(ctx context.Context, names []string) (string, error) {
	stream, err := c.greet.GreetTogether(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if stream.Send(quartetv1.GreetTogetherRequest_builder{Name: name}.Build()) != nil {
			break // CloseAndRecv says why.
		}
	}
	response, err := stream.CloseAndRecv()
	return response.GetGreeting(), err
}
