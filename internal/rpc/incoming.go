package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// incoming bounds what clients may do with the calls that they have begun: how large their messages
// are, how much memory the messages that arrive take together, and how long the server waits for a
// message to arrive or to be taken.
//
// It receives messages from the transport in place of grpc-go's RecvMsg, which has one limit for
// all methods, asks the client for the whole of a message as soon as it knows how long it is, and
// waits for it as long as the stream lasts.
type incoming struct {
	limits   map[string]int // size of the largest message in bytes, by full method
	largest  int            // for all others
	compress bool           // whether compressed messages are accepted
	first    time.Duration  // for a request to arrive
	grace    time.Duration  // for a request that is on its way when a drain begins
	send     time.Duration  // for a reply to be taken
	window   int64          // bytes that a client may send on a stream unasked
	codec    encoding.CodecV2
	errs     errorTables
	room     *room
	log      *slog.Logger

	stopping atomic.Bool // set with mu held

	mu     sync.Mutex
	calls  map[*incomingCall]struct{}
	sweeps bool // whether the next sweep is scheduled
}

// incomingCall is a call of which the client still has to send something, or to take something.
type incomingCall struct {
	ctx    context.Context
	stream transportStream
	// exchange is nil for a call of the main port.
	exchange *exchange
	method   string
	limit    int
	codec    encoding.CodecV2
	request  bool    // the client sends one message, and no more
	prefix   [5]byte // of the message that is arriving: a flag for compression, and the length
	// begun is set when the first message is there.
	begun atomic.Bool
	// receive and send are when a wait for the client ends the call, in nanoseconds since epoch: never
	// if zero, and it has been ended if expired.
	receive, send atomic.Int64
	// ended is the status with which the sweep has ended the call; incoming.mu guards it.
	ended error
	sent  *sent
}

const expired = -1

// epoch is before all deadlines. They count from it by the monotonic clock, because the other one
// may be set, forward or back.
var epoch = time.Now()

func sinceEpoch(at time.Time) int64 { return int64(at.Sub(epoch)) }

// transportStream is the stream of the transport, read message by message. That one can do so, and
// write a status, is not documented; the tests of this package fail if a version of grpc-go has
// other names for it. Interceptors for statistics (stats.Handler) get no InPayload events.
type transportStream interface {
	grpc.ServerTransportStream
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
	RecvCompress() string
	SetSendCompress(name string) error
	WriteStatus(*status.Status) error
}

const (
	// streamFactor is how much longer a stream may take to begin than a request, because a person may
	// have to type.
	streamFactor = 6
	// minRate is how fast a message has to arrive that has begun, in bytes per second, after
	// FIRST_MESSAGE_TIMEOUT.
	minRate = 16 << 10
	// requestGrace is the grace of a server: how long requests may still be on their way when a drain
	// begins. Streams that have not begun end at once.
	requestGrace = time.Second
)

// newIncoming has no calls. window is that of a stream.
func newIncoming(
	cfg ServerConfig, limits map[string]int, errs errorTables, codec encoding.CodecV2,
	log *slog.Logger,
) *incoming {
	return &incoming{
		limits: limits, largest: cfg.MaxReceiveBytes, compress: cfg.AcceptCompressed,
		first: cfg.FirstMessageTimeout, grace: requestGrace,
		send: cfg.SendTimeout, window: int64(cfg.StreamWindowBytes), codec: codec, errs: errs,
		log: log, room: newRoom(cfg), calls: map[*incomingCall]struct{}{},
	}
}

// begin has a call tracked until end, from its headers on. It refuses calls whose messages are
// compressed.
func (in *incoming) begin(ctx context.Context, method string, request bool) (*incomingCall, error) {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return nil, fmt.Errorf("messages cannot be received from a %T",
			grpc.ServerTransportStreamFromContext(ctx))
	}
	if name := stream.RecvCompress(); name != "" && name != encoding.Identity {
		if !in.compress {
			return nil, clientFault(codes.Unimplemented, "messages compressed by %q are not accepted",
				telemetry.Text(name))
		}
		// grpc-go would compress the replies as well, into buffers that unreadCalls does not know.
		_ = stream.SetSendCompress(encoding.Identity) // It fails if the client is gone.
	}
	c := &incomingCall{ctx: ctx, stream: stream, exchange: exchangeOf(ctx), method: method,
		limit: in.largest, codec: in.codecOf(exchangeOf(ctx)), request: request}
	c.sent, _ = ctx.Value(sentKey{}).(*sent)
	if limit, ok := in.limits[method]; ok {
		c.limit = min(limit, in.largest)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.calls[c] = struct{}{}
	c.receive.Store(sinceEpoch(in.firstDeadline(c, time.Now())))
	in.schedule()
	return c, nil
}

// firstDeadline is when the first message of a call has to be there.
func (in *incoming) firstDeadline(c *incomingCall, now time.Time) time.Time {
	switch {
	case in.stopping.Load() && c.request:
		return now.Add(min(in.grace, in.first))
	case in.stopping.Load():
		return now
	case c.request:
		return now.Add(in.first)
	default:
		return now.Add(streamFactor * in.first)
	}
}

// end returns what the call was ended with, if it was: its client has got that, whatever the
// handler returns.
func (in *incoming) end(c *incomingCall) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.calls, c)
	return c.ended
}

// limitReceive and limitSend say when the call ends if the client has not done its part; at zero,
// it may wait. They return false if the call has been ended.
func (c *incomingCall) limitReceive(at int64) bool { return setDeadline(&c.receive, at) }
func (c *incomingCall) limitSend(at int64) bool    { return setDeadline(&c.send, at) }

func setDeadline(deadline *atomic.Int64, at int64) bool {
	for {
		old := deadline.Load()
		if old == expired {
			return false
		}
		if deadline.CompareAndSwap(old, at) {
			return true
		}
	}
}

// stop has the calls end that have not begun, and those that come. Only requests that are on their
// way have a moment.
func (in *incoming) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopping.Store(true)
	now := time.Now()
	for c := range in.calls {
		if c.begun.Load() {
			continue
		}
		deadline, before := sinceEpoch(in.firstDeadline(c, now)), c.receive.Load()
		// It is only made earlier: a message that is arriving may have an earlier deadline already.
		if before == 0 || before > deadline {
			c.receive.CompareAndSwap(before, deadline)
		}
	}
	in.sweep(now)
}

// schedule has the next sweep come, unless it will already. The caller holds the lock.
func (in *incoming) schedule() {
	if in.sweeps || len(in.calls) == 0 {
		return
	}
	in.sweeps = true
	interval := min(max(min(in.first, in.send)/10, time.Millisecond), time.Second)
	if in.stopping.Load() {
		interval = min(interval, in.grace/10)
	}
	time.AfterFunc(interval, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.sweeps = false
		in.sweep(time.Now())
		in.schedule()
	})
}

// sweep ends the calls whose client has let a deadline pass. One look at all of them, a few times
// in the shortest timeout, costs less than a timer for each message. The caller holds the lock.
func (in *incoming) sweep(now time.Time) {
	for c := range in.calls {
		if at := c.receive.Load(); at > 0 && at <= sinceEpoch(now) &&
			c.receive.CompareAndSwap(at, expired) {
			in.expire(c, "the message did not arrive in time")
		} else if at := c.send.Load(); at > 0 && at <= sinceEpoch(now) &&
			c.send.CompareAndSwap(at, expired) ||
			c.sent != nil && c.sent.untaken(now) >= in.send && c.limitSend(expired) {
			in.expire(c, fmt.Sprintf("the client has taken no message for %s", in.send))
		}
	}
}

// endRefused ends the calls that are refused by now. No lock is held while one is checked, which
// may be the verification of a signature for each of them: calls begin and end meanwhile.
func (in *incoming) endRefused(check func(ctx context.Context, method string) error) {
	in.mu.Lock()
	open := slices.Collect(maps.Keys(in.calls))
	in.mu.Unlock()
	for _, c := range open {
		if err := check(c.ctx, c.method); err != nil {
			in.endWith(c, err)
		}
	}
}

// endWith ends a call, unless it has ended.
func (in *incoming) endWith(c *incomingCall, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, open := in.calls[c]; !open {
		return
	}
	c.receive.Store(expired)
	c.send.Store(expired)
	in.finish(c, in.translate(c, err))
}

// expire ends a call that has waited for its client for too long.
func (in *incoming) expire(c *incomingCall, problem string) {
	err := fmt.Errorf("%w: %s", ErrIdle, problem)
	if in.stopping.Load() && !c.begun.Load() {
		err = Stopping("the server is stopping; another one takes the call")
	}
	err = in.translate(c, err)
	if status.Code(err) == codes.DeadlineExceeded || c.request {
		err = &telemetry.ClientFault{Status: status.Convert(err)}
	}
	in.finish(c, err)
}

func (in *incoming) translate(c *incomingCall, err error) error {
	return in.errs.of(c.method).translate(err, func(md metadata.MD) { _ = c.stream.SetTrailer(md) })
}

// finish sends the status of a call. The handler waits inside grpc-go, which only the context of
// the stream interrupts; that one ends with the status.
func (in *incoming) finish(c *incomingCall, ended error) {
	c.ended = ended
	delete(in.calls, c)
	if c.exchange != nil {
		c.exchange.writeStatus(c.stream, status.Convert(c.ended))
		return
	}
	_ = c.stream.WriteStatus(status.Convert(c.ended)) // It fails if the client is gone.
}

// wasEnded is the status of a call that the sweep has ended.
func (in *incoming) wasEnded(c *incomingCall) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return c.ended
}

func clientFault(code codes.Code, format string, args ...any) error {
	return &telemetry.ClientFault{Status: status.Newf(code, format, args...)}
}
