package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
)

// Expand (server streaming) calls each with every word of the text. A stream that breaks is resumed
// after the last word received, so that none is missed or repeated. An error of each ends it.
func (c *Client) Expand(ctx context.Context, text string, each func(word string) error) error {
	next := uint32(0)
	return c.resumption.Resume(ctx, "expand", func(ctx context.Context, a *rpc.Attempt) error {
		stream, err := c.echo.Expand(ctx, quartetv1.ExpandRequest_builder{Text: text, Offset: next}.Build())
		if err != nil {
			return err
		}
		for {
			a.Wait()
			response, err := stream.Recv()
			a.Ready()
			if errors.Is(err, io.EOF) {
				if int(next) <= strings.Count(text, " ") { // One word more than there are spaces.
					return rpc.ErrEnded
				}
				return nil
			}
			if err != nil {
				return err
			}
			if response.GetOffset() != next {
				return fmt.Errorf("%w: word %d in place of %d", rpc.ErrProtocol, response.GetOffset(), next)
			}
			if err := each(response.GetWord()); err != nil {
				return rpc.Final(err)
			}
			next++
			a.Progress()
		}
	})
}
