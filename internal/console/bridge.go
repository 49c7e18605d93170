package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// protocol is the WebSocket subprotocol of a call.
const protocol = "call.v1"

// maxMetadata is the size of all metadata of a call.
const maxMetadata = 8 << 10

// startTimeout is how long a page may take to say which call it wants.
func (c Config) startTimeout() time.Duration { return c.PeerTimeout / 3 }

// lastTimeout is how long a page may take for the last events of a call.
func (c Config) lastTimeout() time.Duration { return c.PeerTimeout / 6 }

// pingInterval is how often a page is asked whether it is there, and how long it may take to
// answer: one that is gone without a word, or that takes nothing, is noticed in twice the time.
func (c Config) pingInterval() time.Duration { return c.PeerTimeout / 2 }

// bridge carries one call over one WebSocket.
type bridge struct {
	console *Console
	socket  *websocket.Conn
	// answer is of the request that became the socket.
	answer http.ResponseWriter
	// began is the zero of all times in events.
	began time.Time
	// cancel ends the call, and leaves the socket open for its status.
	cancel context.CancelCauseFunc

	// helpers are the goroutines beside the one that makes the call; serveCall waits for them.
	helpers sync.WaitGroup
	// write is held while events are written, in their order. A page that reads slowly has it held
	// long.
	write  sync.Mutex
	active atomic.Int64 // when a message last passed, in nanoseconds since began
	// arrived is when a piece of a frame last came, of those that come fast enough, in the same unit.
	arrived atomic.Int64
	// writing is when the event that is being written was begun, in the same unit; 0 if none is.
	writing atomic.Int64

	// mu guards pending, attempts and peer. It is never held while something is written: gRPC calls
	// attempt and header, and must not wait for a page.
	mu sync.Mutex
	// pending is what was sent and what the connection has told of attempts and headers, to be written
	// with the next event.
	pending []event
	// attempts counts those of the call, and peer is the server of the newest.
	attempts int
	peer     string
	// pendingDue is when writePendingInTime writes what no other event has taken along.
	pendingDue *time.Timer

	// credit is how many replies the page takes; it has no bound if limited is false.
	limited bool
	credit  chan int
	// left is what remains of the credit. Only the goroutine that receives replies uses it.
	left int
}

// Reasons for which a bridge cancels its call.
var (
	errCancelled = status.Error(codes.Canceled, "cancelled by the page")
	errGone      = status.Error(codes.Canceled, "the page is gone")
	errIdle      = status.Error(codes.Canceled, "no message has passed for too long")
)

// serveCall carries a call over a WebSocket, from its first frame to its status. Errors from here
// on are events of type "status", because the handshake has been answered.
func (c *Console) serveCall(w http.ResponseWriter, r *http.Request, granted rights) {
	// The origin has been checked already, with names that may differ from the host.
	socket, err := websocket.Accept(
		w,
		r,
		&websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{protocol}},
	)
	if err != nil {
		return // The answer says why.
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	b := &bridge{
		console: c, socket: socket, answer: w, began: time.Now(), cancel: cancel,
		pendingDue: time.NewTimer(pendingDelay), credit: make(chan int, 1),
	}
	// The deferred steps run in the reverse order: the call ends, the socket closes, and then nothing
	// keeps the helpers from returning.
	defer b.helpers.Wait()
	closed := make(chan struct{})
	defer func() {
		_ = socket.CloseNow() // It has been closed, or its peer is gone.
		close(closed)
	}()
	defer cancel(nil)
	// A call that was ended may have an event under way that its page does not take. To close the
	// socket costs less than to read and write with contexts that can end.
	b.helpers.Go(func() {
		<-ctx.Done()
		select {
		case <-closed:
		case <-time.After(c.Config.lastTimeout()):
			_ = socket.CloseNow()
		}
	})
	caller := rpc.CallerAt(r.RemoteAddr)
	// The place is taken after the handshake, so that a refusal has a code and a text on the page.
	end, err := c.calls.begin(cancel, caller)
	if err != nil {
		b.last(err, nil)
		return
	}
	defer end()
	call, err := b.start(ctx, granted)
	if err != nil {
		b.last(err, nil)
		return
	}
	b.last(b.run(ctx, call), call.trailer)
}

// start reads the first frame and prepares the call.
func (b *bridge) start(ctx context.Context, granted rights) (*preparedCall, error) {
	// A frame that is longer closes the socket: a page cannot have the client take more memory.
	b.socket.SetReadLimit(minFrame)
	// A read that fails for lack of time closes the socket.
	starting, cancel := context.WithTimeout(context.Background(), b.console.Config.startTimeout())
	defer cancel()
	var f startFrame
	if err := b.read(starting, &f); err != nil {
		return nil, err
	}
	b.socket.SetReadLimit(int64(b.console.Config.MaxFrameBytes))
	if f.Type != "start" {
		return nil, status.Errorf(
			codes.InvalidArgument,
			"the first frame is %q, expected start",
			telemetry.Text(f.Type),
		)
	}
	// gRPC writes full names of methods with a slash before them.
	m, known := b.console.methods[strings.TrimPrefix(f.Method, "/")]
	if !known {
		return nil, status.Errorf(
			codes.Unimplemented,
			"the client does not know the method %q",
			telemetry.Text(f.Method),
		)
	}
	if granted < everything && !isSafe(m) {
		return nil, status.Errorf(
			codes.PermissionDenied,
			"this token may call only methods without side effects, which %s is not",
			m.Name(),
		)
	}
	md, err := b.console.metadata(f.Metadata)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var deadline time.Duration
	if f.Deadline != "" {
		if deadline, err = time.ParseDuration(f.Deadline); err != nil || deadline <= 0 {
			return nil, status.Errorf(
				codes.InvalidArgument,
				"the deadline %q is no duration such as 5s",
				telemetry.Text(f.Deadline),
			)
		}
	}
	// Only now replies can come, so that no lock is needed.
	b.limited, b.left = f.Messages > 0, min(f.Messages, maxCredit)
	return &preparedCall{metadata: md, deadline: deadline, call: call{
		method:  m,
		outbox:  newOutbox(f.Resume),
		resume:  f.Resume,
		policy:  b.console.Resumption,
		convert: b.console.convert,
		emit:    b.emit,
		sending: func(e event) error { return b.sending(ctx, e) },
	}}, nil
}

// preparedCall is a call with what its first frame says beside the messages.
type preparedCall struct {
	call
	metadata metadata.MD
	deadline time.Duration
}

// metadata converts what the page wants sent, and returns an error for what the configuration does
// not allow, what is reserved, and what gRPC could not send.
func (c *Console) metadata(wanted [][2]string) (metadata.MD, error) {
	// Validate has read it without an error before.
	allowed, err := newNames(c.Config.Metadata)
	if err != nil {
		return nil, err
	}
	md, size := metadata.MD{}, 0
	for _, pair := range wanted {
		// HTTP/2 has names in lower case only (RFC 9113, section 8.2).
		name, value := strings.ToLower(pair[0]), pair[1]
		if err := allowed.allow(name); err != nil {
			return nil, err
		}
		// Servers bound the headers of a call, and answer larger ones with errors that say little.
		if size += len(name) + len(value); size > maxMetadata {
			return nil, fmt.Errorf("metadata are larger than %d bytes", maxMetadata)
		}
		// gRPC carries any bytes in names that end with -bin, and encodes them itself.
		if strings.HasSuffix(name, "-bin") {
			decoded, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("metadata %q is not in base64", name)
			}
			value = string(decoded)
		} else if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf(
				"metadata %q has other characters than printable ASCII; a name that ends with -bin takes any, in base64",
				name,
			)
		}
		// A name may have several values, in the order of the page.
		md.Append(name, value)
	}
	return md, nil
}

// run makes the call while it reads what the page sends, and returns how it ended.
func (b *bridge) run(ctx context.Context, c *preparedCall) error {
	name := methodName(c.method)
	// The span has all attempts of the call as its children, and its trace is what the page links to.
	ctx, span := b.console.Telemetry.Tracer.Start(
		ctx,
		"console "+name,
		trace.WithSpanKind(trace.SpanKindInternal),
	)
	defer span.End()
	// The page has the trace, if it is sampled, before anything can fail.
	if err := b.emit(ctx, b.started(span.SpanContext())); err != nil {
		return err
	}
	// The connection's stats handler, Peers, tells the bridge of each attempt through this value.
	calling := context.WithValue(
		metadata.NewOutgoingContext(ctx, c.metadata),
		watcherKey{},
		watcher(b),
	)
	// The deadline holds for the call and not for ctx, by which its last events are still written.
	if c.deadline > 0 {
		limited, cancel := context.WithTimeout(calling, c.deadline)
		defer cancel()
		calling = limited
	}
	// The helpers that only this call needs end when it does.
	over := make(chan struct{})
	defer close(over)
	b.helpers.Go(func() { b.listen(ctx, &c.call, over) }) // until the socket is closed
	b.helpers.Go(func() { b.watch(&c.call, over) })
	b.helpers.Go(func() { b.writePendingInTime(ctx, over) })
	err := c.run(calling)
	// The reason for which the call was cancelled says more than gRPC's CANCELLED.
	if cause := context.Cause(ctx); cause != nil { // The page or the console ended it.
		err = cause
	} else if err != nil && errors.Is(calling.Err(), context.DeadlineExceeded) &&
		status.Code(err) != codes.DeadlineExceeded {
		err = status.Error(codes.DeadlineExceeded, context.DeadlineExceeded.Error())
	}
	return err
}

// started is the first event, with the trace if it is sampled, and a link to it if one is
// configured.
func (b *bridge) started(span trace.SpanContext) event {
	e := event{Type: "started"}
	if span.IsSampled() {
		e.TraceID = span.TraceID().String()
		if link := b.console.Config.TraceURL; link != "" {
			e.TraceURL = strings.ReplaceAll(link, "{trace_id}", url.PathEscape(e.TraceID))
		}
	}
	return e
}

// read reads a frame into a value that its JSON is for.
func (b *bridge) read(ctx context.Context, f any) error {
	// Read also answers pings and takes the answers to ours, so that it has to be called all the time.
	kind, pieces, err := b.socket.Reader(ctx)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(&arriving{Reader: pieces, bridge: b, began: time.Now()})
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		// The page would not learn why the socket is closed if that had the rest of the frame unread.
		CloseSocket(b.answer, b.socket, websocket.StatusMessageTooBig, b.console.Config.lastTimeout())
	}
	if err != nil {
		// However reading failed, nothing more can be said to the page.
		return errGone
	}
	if kind != websocket.MessageText {
		return status.Error(codes.InvalidArgument, "a frame is binary, expected JSON")
	}
	if err := json.Unmarshal(text, f); err != nil {
		return status.Errorf(
			codes.InvalidArgument,
			"a frame is no JSON as expected: %s",
			telemetry.Text(err.Error()),
		)
	}
	return nil
}

// arriving is a frame that tells the bridge of its pieces, as long as they come fast enough.
type arriving struct {
	io.Reader
	bridge *bridge
	began  time.Time
	came   int64 // bytes
}

// Read implements io.Reader.
func (a *arriving) Read(into []byte) (int, error) {
	// The library fills all of what it is given before it returns.
	n, err := a.Reader.Read(into[:min(len(into), slowest)])
	a.came += int64(n)
	if n > 0 && time.Since(a.began) <= time.Duration(a.came)*time.Second/slowest {
		a.bridge.arrived.Store(int64(time.Since(a.bridge.began)))
	}
	return n, err
}

// listen does what the page's frames say, until the page is gone.
func (b *bridge) listen(ctx context.Context, c *call, over <-chan struct{}) {
	for {
		var f frame
		err := b.read(context.Background(), &f) // until the socket is closed
		select {
		case <-over: // What comes now is too late.
			return
		default:
		}
		// The page is gone, or what it sends is no frame: the call ends, and run returns this error.
		if err != nil {
			b.cancel(err)
			return
		}
		b.active.Store(int64(time.Since(b.began)))
		switch f.Type {
		case "message":
			err = b.enqueue(ctx, c, f.Message)
		case "half_close":
			c.outbox.halfClose()
		case "more":
			b.grant(f.Messages)
		case "cancel":
			err = errCancelled
		default:
			err = status.Errorf(
				codes.InvalidArgument,
				"a frame is of the unknown type %q",
				telemetry.Text(f.Type),
			)
		}
		if err != nil {
			b.cancel(err)
			return
		}
	}
}

// enqueue has a message sent. One that is not as the contract says, or that comes too late, is left
// out and told of: a conversation need not end because of a typing mistake.
func (b *bridge) enqueue(ctx context.Context, c *call, text json.RawMessage) error {
	number, closed := c.outbox.next()
	if closed {
		return b.emit(ctx, event{Type: "error", Number: &number,
			Error: "the call is half-closed already, nothing more can be sent"})
	}
	message, wrong, err := c.convert.encode(ctx, c.method.input, text)
	if err != nil {
		return err
	}
	// The JSON is not one of the message; the page shows what is wrong with it.
	if wrong != nil {
		return b.emit(ctx, event{Type: "error", Number: &number,
			Error: telemetry.Text(wrong.Error())})
	}
	// It waits while the server takes no messages. Nothing more is read from the page then, so that
	// TCP holds it back.
	if err := c.outbox.put(ctx, message); err != nil {
		return err
	}
	// A method that takes one message has its request complete with it.
	if !c.method.IsStreamingClient() {
		c.outbox.halfClose()
	}
	return nil
}

// emit writes an event, and waits until the page wants it, if it is a reply, and has taken what
// came before.
func (b *bridge) emit(ctx context.Context, e event) error {
	// Only replies need credit: other events are few, and the page needs them to follow the call.
	if e.Type == "message" {
		if err := b.awaitCredit(ctx); err != nil {
			return err
		}
		b.active.Store(int64(time.Since(b.began)))
	}
	b.write.Lock()
	defer b.write.Unlock()
	// What is pending came before this event, and is written before it.
	b.mu.Lock()
	events := b.pending
	b.pending = nil
	// The page draws a reply at the server that sent it.
	if e.Peer == "" && (e.Type == "message" || e.Type == "break" || e.Type == "status") {
		e.Peer = b.peer
	}
	b.mu.Unlock()
	if e.Type != "" {
		events = append(events, b.timed(e))
	}
	if len(events) == 0 {
		return nil
	}
	text, err := json.Marshal(events)
	if err != nil {
		return err
	}
	// Not with ctx: the last events of a call that has ended may still be written.
	b.writing.Store(int64(time.Since(b.began)))
	err = b.socket.Write(context.Background(), websocket.MessageText, text)
	b.writing.Store(0)
	if err != nil {
		b.cancel(errGone)
		return errGone
	}
	return nil
}

// writePending writes what is pending without another event.
func (b *bridge) writePending(ctx context.Context) error { return b.emit(ctx, event{}) }

// timed sets the time of an event, in milliseconds since the socket was opened.
func (b *bridge) timed(e event) event {
	e.Time = float64(time.Since(b.began).Microseconds()) / 1000
	return e
}

// awaitCredit waits until the page takes another reply. Meanwhile the server is held back.
func (b *bridge) awaitCredit(ctx context.Context) error {
	for b.limited && b.left == 0 {
		select {
		case more := <-b.credit:
			b.left += more
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	b.left--
	return nil
}

// maxCredit bounds how many replies a page takes at once, so that sums of credits do not overflow.
const maxCredit = 1 << 20

// grant adds to the number of replies that the page takes. It does not wait: what has not been
// taken up yet is added to.
func (b *bridge) grant(more int) {
	if more <= 0 {
		return
	}
	more = min(more, maxCredit)
	for {
		select {
		case b.credit <- more:
			return
		case before := <-b.credit:
			more = min(more+before, maxCredit)
		}
	}
}

const (
	// pendingDelay is how long events wait for another one that they can be written with. A frame of
	// its own would cost as much as a reply.
	pendingDelay = 5 * time.Millisecond
	// maxPending bounds how much waits. What is told by gRPC, which must not wait, is dropped beyond
	// it, and requests wait for the page at half of it.
	maxPending = 64
)

// sending tells of a request that is about to be handed to gRPC, so that no reply to it can be
// written before. It waits for the page only if that has not taken what came before.
func (b *bridge) sending(ctx context.Context, e event) error {
	b.mu.Lock()
	b.queue(e)
	many := len(b.pending) >= maxPending/2
	b.mu.Unlock()
	if many {
		return b.writePending(ctx)
	}
	return nil
}

// attempt implements watcher.
func (b *bridge) attempt(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts++
	b.peer = address
	b.queue(event{Type: "attempt", Attempt: b.attempts, Peer: address})
}

// header implements watcher.
func (b *bridge) header(md metadata.MD) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue(event{Type: "header", Peer: b.peer, Metadata: pairs(md)})
}

// queue keeps an event without waiting. The caller holds the lock.
func (b *bridge) queue(e event) {
	if len(b.pending) == 0 {
		b.pendingDue.Reset(pendingDelay)
	}
	if len(b.pending) < maxPending {
		b.pending = append(b.pending, b.timed(e))
	}
}

// writePendingInTime writes what is pending in time when no other event does.
func (b *bridge) writePendingInTime(ctx context.Context, over <-chan struct{}) {
	for {
		select {
		case <-b.pendingDue.C:
			if b.writePending(ctx) != nil {
				return
			}
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}

// watch ends the call when the page is gone or nothing happens.
func (b *bridge) watch(c *call, over <-chan struct{}) {
	// Half of the idle time keeps a short one from being overrun by much.
	interval := b.console.Config.pingInterval()
	ticker := time.NewTicker(min(interval, b.console.Config.IdleTimeout/2))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-over:
			return
		}
		// A conversation may pause for long, but not for ever: it has one of few places.
		if time.Since(b.began)-time.Duration(b.active.Load()) > b.console.Config.IdleTimeout {
			b.cancel(errIdle)
			return
		}
		// A ping would wait for an event that is being written, and the library waits 5 s for that at
		// most, while a page may take a large reply slowly.
		if began := b.writing.Load(); began != 0 {
			if time.Since(b.began)-time.Duration(began) > b.console.Config.PeerTimeout {
				b.cancel(errGone)
				return
			}
			continue
		}
		pinging, cancel := context.WithTimeout(context.Background(), interval)
		err := b.socket.Ping(pinging)
		cancel()
		// A page answers between two frames only, which it may send slowly.
		arrived := time.Since(b.began)-time.Duration(b.arrived.Load()) < interval
		if errors.Is(err, context.DeadlineExceeded) && (b.writing.Load() != 0 || arrived) {
			continue
		}
		// While the page is held back its answer is not read, but a connection that is gone fails already
		// when it is written to.
		if err != nil && (!c.outbox.full.Load() || !errors.Is(err, context.DeadlineExceeded)) {
			b.cancel(errGone)
			return
		}
	}
}

// last tells how the call ended, and closes the socket.
func (b *bridge) last(err error, trailers metadata.MD) {
	if errors.Is(err, errGone) {
		return
	}
	b.cancel(err) // From now on the page has lastTimeout to take what is written.
	all := pairs(trailers)
	// Maps have no order; the page shows trailers in the same one each time.
	slices.SortFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	// A context that is done would not let the status through.
	if b.emit(context.Background(), event{Type: "status", Status: describe(err),
		Trailers: all}) == nil {
		// The page has everything.
		CloseSocket(b.answer, b.socket, websocket.StatusNormalClosure, b.console.Config.lastTimeout())
	}
}

// CloseSocket closes a WebSocket that was accepted with w, and waits so long for its peer to do the
// same. What the peer sends until then is thrown away. Close of the library alone would wait
// without an end for a peer that has begun a frame.
func CloseSocket(
	w http.ResponseWriter,
	socket *websocket.Conn,
	code websocket.StatusCode,
	limit time.Duration,
) {
	if p, ok := w.(*paced); ok {
		w = p.ResponseWriter // which does not ignore deadlines
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
	_ = socket.Close(code, "") // Its peer may be gone.
}
