package console

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
)

// call is a call that a page makes, with all its attempts.
type call struct {
	method method
	// outbox has the requests. The bridge puts them in, and attempts take them out by number.
	outbox *outbox
	// resume says that the page has asked for another attempt after a break, policy by which rules.
	resume bool
	policy rpc.Resumption
	// emit waits until the page has taken the event or, if it has no credit for a reply, until the
	// context is done.
	emit    func(context.Context, event) error
	sending func(event) error // tells of a request, before any reply to it
	convert converter
	// trailer is that of the last attempt.
	trailer metadata.MD

	begun int // attempts of the whole call, by Resume
}

// run makes the call and returns how it ended. Messages of the page are its requests, and each
// reply is an event.
//
// A call that is to be continued after a break is made again from its first message on, with all
// that was sent, by the same rules by which the services' own clients resume. What that means to
// the service has to be known to the caller that asked for it: the bridge does not know at which
// message a stream broke.
func (c *call) run(ctx context.Context) error {
	if !c.resume {
		return c.attempt(ctx)
	}
	// Without Retriable the built-in rules hold, which mayResume repeats for the page.
	c.policy.Retriable = nil
	return c.policy.Resume(
		ctx,
		"call from the console",
		func(ctx context.Context, a *rpc.Attempt) error {
			a.Ready() // Nothing says when a server has to answer.
			c.begun++
			if c.begun > 1 {
				// An event that cannot be written means that the page is gone: another attempt would be for
				// nothing.
				if err := c.emit(ctx, event{Type: "resume", Attempt: c.begun}); err != nil {
					return rpc.Final(err)
				}
			}
			err := c.attempt(ctx)
			switch {
			case err == nil || ctx.Err() != nil:
				return err
			// What was sent is no longer kept, so that the call cannot be made again from its beginning.
			case !c.outbox.canRepeat():
				return rpc.Final(err)
			case mayResume(err):
				// The page sees the break before the pause that comes now.
				if failed := c.emit(ctx, event{Type: "break", Attempt: c.begun,
					Status: describe(err)}); failed != nil {
					return rpc.Final(failed)
				}
			}
			return err
		},
	)
}

// mayResume tells whether a Resumption without rules of its own makes another attempt.
func mayResume(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return rpc.IsBusy(err)
	}
}

// attempt makes the call once.
func (c *call) attempt(ctx context.Context) error {
	// Unary calls go by Invoke, as those of generated clients do.
	if !c.method.IsStreamingClient() && !c.method.IsStreamingServer() {
		return c.unary(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	// The codec hands messages over as bytes; their types are needed only for JSON.
	stream, err := c.method.conn.NewStream(ctx, &grpc.StreamDesc{
		StreamName: string(
			c.method.Name(),
		),
		ClientStreams: c.method.IsStreamingClient(),
		ServerStreams: c.method.IsStreamingServer(),
	}, "/"+methodName(c.method), grpc.ForceCodecV2(codec{}))
	if err != nil {
		cancel()
		return err
	}
	// Sending and receiving are independent of each other in a bidirectional call.
	var sending sync.WaitGroup
	defer sending.Wait()
	// Leaving the stream before its end would leak it otherwise.
	defer cancel()
	failed := make(chan error, 1)
	sending.Go(func() {
		// A failure to send that is not the server's ends the receiving, too.
		if err := c.send(ctx, stream); err != nil {
			failed <- err
			cancel()
		}
	})
	err = c.receive(ctx, stream)
	// It is set when RecvMsg has returned the end or an error.
	c.trailer = stream.Trailer()
	select {
	case reason := <-failed: // The cancellation was ours.
		return reason
	default:
		return err
	}
}

// receive takes replies one by one: the next is not asked for before the page has taken the last,
// so that a page that does not read holds back the server.
func (c *call) receive(ctx context.Context, stream grpc.ClientStream) error {
	for {
		var reply encoded
		err := stream.RecvMsg(&reply)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.show(ctx, reply); err != nil {
			return err
		}
		// grpc-go has read the status, too, before it returns an only reply.
		if !c.method.IsStreamingServer() {
			return nil
		}
	}
}

// send sends what the page wants to have sent. A stream that has ended says why to receive.
func (c *call) send(ctx context.Context, stream grpc.ClientStream) error {
	for number := 0; ; number++ {
		message, err := c.outbox.get(ctx, number)
		if err != nil {
			return nil // The call is over.
		}
		// The page has half-closed without a message, and gRPC would send an empty request.
		if message == nil && number == 0 && !c.method.IsStreamingClient() {
			return errNoMessage
		}
		if message == nil {
			_ = stream.CloseSend() // It never fails.
			return nil
		}
		// Before SendMsg, since the reply may come before it returns.
		if err := c.tellSent(number, message); err != nil {
			return err
		}
		if stream.SendMsg(message) != nil {
			return nil // RecvMsg says why.
		}
		if !c.method.IsStreamingClient() {
			_ = stream.CloseSend()
			return nil
		}
	}
}

// errNoMessage is for a page that half-closes a call before the one message that its method takes.
var errNoMessage = status.Error(
	codes.InvalidArgument,
	"the call has to have one message before it is half-closed",
)

// unary makes a call of one request and one reply, when the page has sent the request.
func (c *call) unary(ctx context.Context) error {
	message, err := c.outbox.get(ctx, 0)
	if err != nil {
		return err
	}
	if message == nil {
		return errNoMessage
	}
	// Before Invoke, which returns only with the reply.
	if err := c.tellSent(0, message); err != nil {
		return err
	}
	var reply encoded
	err = c.method.conn.Invoke(
		ctx,
		"/"+methodName(c.method),
		message,
		&reply,
		grpc.Trailer(&c.trailer),
		grpc.ForceCodecV2(codec{}),
	)
	if err != nil {
		return err
	}
	return c.show(ctx, reply)
}

// show gives a reply to the page.
func (c *call) show(ctx context.Context, reply encoded) error {
	text, wrong, err := c.convert.decode(ctx, c.method.output, reply)
	if err != nil {
		return err
	}
	size := len(reply)
	e := event{Type: "message", Bytes: &size, Message: text}
	// A reply that cannot be shown is still a reply: the page says so, and the call goes on.
	if wrong != nil {
		e.Error = wrong.Error()
	}
	// With the attempt's context: the deadline holds for a page that takes no replies at present, too.
	return c.emit(ctx, e)
}

// tellSent says that a request is sent. number counts from 0, and size is in bytes of protobuf.
func (c *call) tellSent(number int, message encoded) error {
	size := len(message)
	return c.sending(
		event{Type: "sent", Number: &number, Bytes: &size, Again: !c.outbox.sent(number, size)},
	)
}
