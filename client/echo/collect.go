package echo

import (
	"context"
	"errors"
	"io"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
)

// Collect (client streaming) returns the text that the words make. The server keeps nothing of a
// stream that breaks, so that all words are sent again. Where a server keeps something, a client
// would ask for it first, and continue from there.
func (c *Client) Collect(ctx context.Context, words []string) (collected string, err error) {
	err = c.resumption.Resume(ctx, "collect", func(ctx context.Context, a *rpc.Attempt) error {
		stream, err := c.echo.Collect(ctx)
		if err != nil {
			return err
		}
		for _, word := range words {
			a.Wait()
			err := stream.Send(quartetv1.CollectRequest_builder{Word: word}.Build())
			if errors.Is(err, io.EOF) {
				break // The server has ended the stream, and CloseAndRecv says why.
			}
			if err != nil {
				return err
			}
		}
		response, err := stream.CloseAndRecv()
		if err != nil {
			return err
		}
		collected = response.GetText()
		return nil
	})
	return collected, err
}
