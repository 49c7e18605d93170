package greet

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// Greet (unary) greets one person.
func (c *Client) Greet(ctx context.Context, name string) (string, error) {
	response, err := c.greet.Greet(ctx, quartetv1.GreetRequest_builder{Name: name}.Build())
	return response.GetGreeting(), err
}
