package rpc

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// unbegun knows the calls whose client has sent headers and not yet a whole message. Nothing is being worked on: a request has
// to arrive within the timeout, and a drain does not wait for it.
//
// They wait inside grpc-go's RecvMsg, which only the context of the stream interrupts. One that we can cancel could be handed
// out in the tap, but it would cost every call more than all of this, and the client would get CANCELLED. So the status is
// written to the stream of the transport: the client gets it, and RecvMsg ends.
type unbegun struct {
	timeout time.Duration
	errs    errorTables

	mu       sync.Mutex
	calls    map[*unbegunCall]struct{}
	stopping bool
	timer    *time.Timer
	wake     time.Time // when the timer fires; zero if it does not
}

type unbegunCall struct {
	stream  transportStream
	method  string
	request bool // the message is the only one of the client
	// deadline is when the call is ended, zero if it may wait; ended is what it was ended with.
	deadline time.Time
	ended    error
}

// transportStream is the stream of the transport. That one can write a status is not documented; TestRequestsHaveToArrive fails
// if a version of grpc-go has another name for it.
type transportStream interface {
	grpc.ServerTransportStream
	WriteStatus(*status.Status) error
}

// lastRequest is how long requests may still be on their way when a drain begins. Streams that have not begun end at once.
const lastRequest = time.Second

func newUnbegun(timeout time.Duration, errs errorTables) *unbegun {
	return &unbegun{timeout: timeout, errs: errs, calls: map[*unbegunCall]struct{}{}}
}

// add notes a call that waits for its first message.
func (u *unbegun) add(ctx context.Context, c *unbegunCall) {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return
	}
	c.stream = stream
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls[c] = struct{}{}
	u.schedule(c, time.Now())
}

// begin notes that RecvMsg has returned with received, or that the call is over. It returns what the call was ended with, if it
// was: its client has got that, whatever happens now. But what RecvMsg refuses it has sent by itself, before.
func (u *unbegun) begin(c *unbegunCall, received error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.calls, c)
	if code := status.Code(received); code == codes.Internal || code == codes.ResourceExhausted {
		c.ended = nil
	}
	return c.ended
}

// stop has the calls end that wait, and those that come.
func (u *unbegun) stop() {
	u.mu.Lock()
	u.stopping = true
	now := time.Now()
	for c := range u.calls {
		u.schedule(c, now)
	}
	u.mu.Unlock()
}

// schedule sets the deadline of a call, and the timer if no earlier one is waited for.
func (u *unbegun) schedule(c *unbegunCall, now time.Time) {
	wait := time.Duration(0)
	switch {
	case u.stopping && c.request:
		wait = min(lastRequest, u.timeout)
	case c.request:
		wait = u.timeout
	case !u.stopping:
		return
	}
	if deadline := now.Add(wait); c.deadline.IsZero() || deadline.Before(c.deadline) {
		c.deadline = deadline
	}
	if u.wake.IsZero() || c.deadline.Before(u.wake) {
		u.setTimer(c.deadline, now)
	}
}

func (u *unbegun) setTimer(at, now time.Time) {
	u.wake = at
	if u.timer == nil {
		u.timer = time.AfterFunc(at.Sub(now), u.endLate)
	} else {
		u.timer.Reset(at.Sub(now))
	}
}

// endLate ends the calls whose deadline has passed. Most have begun before: the timer, which is one for all calls, then goes off
// for nothing, once in the timeout.
func (u *unbegun) endLate() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, next := time.Now(), time.Time{}
	for c := range u.calls {
		switch {
		case c.deadline.IsZero():
		case !c.deadline.After(now):
			delete(u.calls, c)
			u.end(c)
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	if u.wake = next; !next.IsZero() {
		u.setTimer(next, now)
	}
}

// end sends the status of a call that has not begun. A request that did not come is its client's fault; a stream may wait for
// as long as its client likes, until the drain.
func (u *unbegun) end(c *unbegunCall) {
	err := fmt.Errorf("%w: the request did not arrive within %s", ErrIdle, u.timeout)
	if u.stopping {
		err = Stopping("the server is stopping; another one takes the call")
	}
	c.ended = u.errs.of(c.method).translate(err, func(md metadata.MD) { _ = c.stream.SetTrailer(md) })
	if c.request {
		c.ended = &telemetry.ClientFault{Status: status.Convert(c.ended)}
	}
	_ = c.stream.WriteStatus(status.Convert(c.ended)) // It fails if the client is gone.
}

// receiveRequests has requests of unary calls received in sight of the interceptors. grpc-go calls those with the request, and
// answers by itself if it gets none: too large, not what gRPC sends, or late.
func (u *unbegun) receiveRequests(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	own := *desc
	own.Methods = nil
	for _, method := range desc.Methods {
		handler, info := method.Handler, grpc.UnaryServerInfo{FullMethod: "/" + desc.ServiceName + "/" + method.MethodName}
		method.Handler = func(srv any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			c := &unaryRequest{unbegunCall{method: info.FullMethod, request: true}, u, ctx, receive, nil}
			reply, err := handler(srv, ctx, c.decode, interceptor)
			if c.failure == nil {
				return reply, err
			}
			return interceptor(ctx, nil, &grpc.UnaryServerInfo{Server: srv, FullMethod: info.FullMethod}, c.fail)
		}
		own.Methods = append(own.Methods, method)
	}
	return &own
}

// unaryRequest is a unary call until its request is there.
type unaryRequest struct {
	unbegunCall
	unbegun *unbegun
	ctx     context.Context
	receive func(any) error
	failure error
}

func (c *unaryRequest) decode(msg any) error {
	c.unbegun.add(c.ctx, &c.unbegunCall)
	err := refused(c.receive(msg), true)
	ended := c.unbegun.begin(&c.unbegunCall, err)
	c.failure = cmp.Or(ended, err, c.unbegun.errs.codec.failure(msg))
	return c.failure
}

func (c *unaryRequest) fail(context.Context, any) (any, error) { return nil, c.failure }
