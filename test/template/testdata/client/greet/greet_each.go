package greet

import (
	"context"
	"errors"
	"fmt"
	"io"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
)

// GreetEach (bidirectional) greets people one after the other.
func (c *Client) GreetEach(ctx context.Context, names []string) (greetings []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.greet.GreetEach(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if stream.Send(quartetv1.GreetEachRequest_builder{Name: name}.Build()) != nil {
			// Recv says why.
			_, err := stream.Recv()
			return nil, err
		}
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		greetings = append(greetings, response.GetGreeting())
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	if err == nil {
		return nil, fmt.Errorf("%w: more replies than names", rpc.ErrProtocol)
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return greetings, nil
}
