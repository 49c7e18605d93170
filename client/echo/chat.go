package echo

import (
	"context"
	"errors"
	"io"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
)

// Chat (bidirectional) sends each text and calls each with every reply, in order, until texts is
// closed and all replies have come. Sending does not wait for replies. After a break it goes on
// with the first text that has no reply, so that none is missed or answered twice. An error of each
// ends it.
func (c *Client) Chat(ctx context.Context, texts <-chan string, each func(text string) error) error {
	p := &pending{texts: texts}
	return c.resumption.Resume(ctx, "chat", func(ctx context.Context, a *rpc.Attempt) error {
		ctx, cancel := context.WithCancel(ctx)
		stream, err := c.echo.Chat(ctx)
		if err != nil {
			cancel()
			return err
		}
		p.begin()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for {
				sequence, text, ok := p.take(ctx, a)
				if !ok {
					_ = stream.CloseSend() // It never fails.
					return
				}
				if stream.Send(quartetv1.ChatRequest_builder{Sequence: sequence, Text: text}.Build()) != nil {
					return // Recv says why.
				}
			}
		}()
		defer func() { cancel(); <-sent }()
		for {
			response, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return p.end()
			}
			if err != nil {
				return err
			}
			if err := p.answered(response.GetSequence(), a); err != nil {
				return err
			}
			if err := each(response.GetText()); err != nil {
				return rpc.Final(err)
			}
			p.done(a)
		}
	})
}
