package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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

const (
	// startTimeout is how long a page may take to say which call it wants, and lastTimeout to take its
	// status.
	startTimeout = 10 * time.Second
	lastTimeout  = 5 * time.Second
	// A page that is gone without a word, or that takes nothing, is noticed by pings.
	pingInterval = 15 * time.Second
	pingTimeout  = 15 * time.Second
	// mostMetadata is the size of all metadata of a call.
	mostMetadata = 8 << 10
)

// bridge carries one call over one WebSocket.
type bridge struct {
	console *Console
	socket  *websocket.Conn
	began   time.Time
	// open is the context of the socket, which is cut with it, and cancel ends the call alone.
	open   context.Context
	cancel context.CancelCauseFunc

	helpers sync.WaitGroup
	write   sync.Mutex
	active  atomic.Int64 // when a message last passed, in nanoseconds since 1970

	// news is what the connection has told of attempts and headers, to be written before what comes
	// after it.
	mu       sync.Mutex
	news     []event
	attempts int
	peer     string
	hasNews  chan struct{}

	// credit is how many replies the page takes; it has no bound if limited is false.
	limited bool
	credit  chan int
	left    int
}

// Reasons for which a bridge cancels its call.
var (
	errCancelled = status.Error(codes.Canceled, "cancelled by the page")
	errGone      = status.Error(codes.Canceled, "the page is gone")
	errIdle      = status.Error(codes.Canceled, "no message has passed for too long")
)

func (c *Console) serveCall(w http.ResponseWriter, r *http.Request, its rights) {
	// The origin has been checked already, with names that may differ from the host.
	socket, err := websocket.Accept(
		w,
		r,
		&websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{protocol}},
	)
	if err != nil {
		return // The answer says why.
	}
	socket.SetReadLimit(int64(c.Config.MaxFrameBytes))
	open, cut := context.WithCancel(context.WithoutCancel(r.Context()))
	ctx, cancel := context.WithCancelCause(open)
	b := &bridge{
		console: c, socket: socket, began: time.Now(), open: open, cancel: cancel,
		hasNews: make(chan struct{}, 1), credit: make(chan int, 1),
	}
	defer b.helpers.Wait()
	defer func() { _ = socket.CloseNow() }() // It has been closed, or its peer is gone.
	defer cut()
	defer cancel(nil)
	// A call that was ended may have an event under way that its page does not take.
	context.AfterFunc(ctx, func() {
		late := time.AfterFunc(lastTimeout, cut)
		context.AfterFunc(open, func() { late.Stop() })
	})
	b.active.Store(b.began.UnixNano())
	caller := rpc.CallerAt(r.RemoteAddr)
	end, err := c.calls.begin(cancel, caller)
	if err != nil {
		b.last(err, nil)
		return
	}
	defer end()
	call, err := b.start(ctx, its)
	if err != nil {
		b.last(err, nil)
		return
	}
	b.last(b.run(ctx, call), call.trailer)
}

// start reads the first frame and prepares the call.
func (b *bridge) start(ctx context.Context, its rights) (*preparedCall, error) {
	starting, cancel := context.WithTimeout(b.open, startTimeout)
	defer cancel()
	f, err := b.read(starting)
	if err != nil {
		return nil, err
	}
	if f.Type != "start" {
		return nil, status.Errorf(
			codes.InvalidArgument,
			"the first frame is %q, expected start",
			telemetry.Text(f.Type),
		)
	}
	m, known := b.console.methods[strings.TrimPrefix(f.Method, "/")]
	if !known {
		return nil, status.Errorf(
			codes.Unimplemented,
			"the client does not know the method %q",
			telemetry.Text(f.Method),
		)
	}
	if its < everything && !isSafe(m) {
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
	b.limited, b.left = f.Messages > 0, f.Messages
	return &preparedCall{metadata: md, deadline: deadline, call: call{
		method:  m,
		outbox:  newOutbox(f.Resume),
		resume:  f.Resume,
		policy:  b.console.Resumption,
		convert: b.console.convert,
		emit:    func(e event) error { return b.emit(ctx, e) },
	}}, nil
}

type preparedCall struct {
	call
	metadata metadata.MD
	deadline time.Duration
}

// metadata are those of a call, as far as it may have them.
func (c *Console) metadata(wanted [][2]string) (metadata.MD, error) {
	allowed, err := newNames(c.Config.Metadata)
	if err != nil {
		return nil, err
	}
	md, size := metadata.MD{}, 0
	for _, pair := range wanted {
		name, value := strings.ToLower(pair[0]), pair[1]
		if err := allowed.allow(name); err != nil {
			return nil, err
		}
		if size += len(name) + len(value); size > mostMetadata {
			return nil, fmt.Errorf("metadata are larger than %d bytes", mostMetadata)
		}
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
		md.Append(name, value)
	}
	return md, nil
}

// run makes the call while it reads what the page sends, and returns how it ended.
func (b *bridge) run(ctx context.Context, c *preparedCall) error {
	name := methodName(c.method)
	ctx, span := b.console.Telemetry.Tracer.Start(
		ctx,
		"console "+name,
		trace.WithSpanKind(trace.SpanKindInternal),
	)
	defer span.End()
	if err := b.emit(ctx, b.started(span.SpanContext())); err != nil {
		return err
	}
	calling := context.WithValue(
		metadata.NewOutgoingContext(ctx, c.metadata),
		watcherKey{},
		watcher(b),
	)
	if c.deadline > 0 {
		limited, cancel := context.WithTimeout(calling, c.deadline)
		defer cancel()
		calling = limited
	}
	over := make(chan struct{})
	defer close(over)
	b.helpers.Go(func() { b.listen(ctx, &c.call, over) }) // until the socket is closed
	b.helpers.Go(func() { b.watch(&c.call, over) })
	b.helpers.Go(func() { b.tellNews(ctx, over) })
	err := c.run(calling)
	if cause := context.Cause(ctx); cause != nil { // The page or the console ended it.
		err = cause
	} else if err != nil && errors.Is(calling.Err(), context.DeadlineExceeded) &&
		status.Code(err) != codes.DeadlineExceeded {
		err = status.Error(codes.DeadlineExceeded, context.DeadlineExceeded.Error())
	}
	return err
}

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

// read reads a frame.
func (b *bridge) read(ctx context.Context) (frame, error) {
	var f frame
	kind, text, err := b.socket.Read(ctx)
	if err != nil {
		return f, errGone
	}
	if kind != websocket.MessageText {
		return f, status.Error(codes.InvalidArgument, "a frame is binary, expected JSON")
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, status.Errorf(
			codes.InvalidArgument,
			"a frame is no JSON as expected: %s",
			telemetry.Text(err.Error()),
		)
	}
	return f, nil
}

// listen does what the page's frames say, until the page is gone.
func (b *bridge) listen(ctx context.Context, c *call, over <-chan struct{}) {
	for {
		f, err := b.read(b.open)
		select {
		case <-over: // What comes now is too late.
			return
		default:
		}
		if err != nil {
			b.cancel(err)
			return
		}
		b.active.Store(time.Now().UnixNano())
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
	if c.outbox.isClosed() {
		return b.emit(
			ctx,
			event{Type: "error", Error: "the call is half-closed already, nothing more can be sent"},
		)
	}
	message, wrong, err := c.convert.encode(ctx, c.method.Input(), text)
	if err != nil {
		return err
	}
	if wrong != nil {
		return b.emit(ctx, event{Type: "error", Error: telemetry.Text(wrong.Error())})
	}
	if err := c.outbox.put(ctx, message); err != nil {
		return err
	}
	if !c.method.IsStreamingClient() {
		c.outbox.halfClose()
	}
	return nil
}

// emit writes an event, and waits until the page wants it, if it is a reply, and has taken what
// came before.
func (b *bridge) emit(ctx context.Context, e event) error {
	if e.Type == "message" {
		if err := b.awaitCredit(ctx); err != nil {
			return err
		}
		b.active.Store(time.Now().UnixNano())
	}
	b.write.Lock()
	defer b.write.Unlock()
	b.mu.Lock()
	news := b.news
	b.news = nil
	if e.Peer == "" && (e.Type == "message" || e.Type == "break" || e.Type == "status") {
		e.Peer = b.peer
	}
	b.mu.Unlock()
	if e.Type != "" {
		news = append(news, b.timed(e))
	}
	for _, e := range news {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if err := b.socket.Write(b.open, websocket.MessageText, text); err != nil {
			b.cancel(errGone)
			return errGone
		}
	}
	return nil
}

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

// grant adds to what the page takes.
func (b *bridge) grant(more int) {
	if more <= 0 {
		return
	}
	for {
		select {
		case b.credit <- more:
			return
		case before := <-b.credit:
			more = min(more+before, 1<<20)
		}
	}
}

// mostNews bounds what is remembered of attempts that no event has told of yet.
const mostNews = 64

// attempt implements watcher.
func (b *bridge) attempt(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts++
	b.peer = address
	b.tell(event{Type: "attempt", Attempt: b.attempts, Peer: address})
}

// header implements watcher.
func (b *bridge) header(md metadata.MD) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(event{Type: "header", Peer: b.peer, Metadata: pairs(md)})
}

// tell remembers an event without waiting. The caller holds the lock.
func (b *bridge) tell(e event) {
	if len(b.news) < mostNews {
		b.news = append(b.news, b.timed(e))
	}
	select {
	case b.hasNews <- struct{}{}:
	default:
	}
}

// tellNews writes what attempt and header have told when no other event does.
func (b *bridge) tellNews(ctx context.Context, over <-chan struct{}) {
	for {
		select {
		case <-b.hasNews:
			if b.emit(ctx, event{}) != nil {
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
	ticker := time.NewTicker(min(pingInterval, b.console.Config.IdleTimeout/2))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-over:
			return
		}
		if time.Since(time.Unix(0, b.active.Load())) > b.console.Config.IdleTimeout {
			b.cancel(errIdle)
			return
		}
		pinging, cancel := context.WithTimeout(b.open, pingTimeout)
		err := b.socket.Ping(pinging)
		cancel()
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
	b.cancel(err) // From now on the page has a limited time.
	all := pairs(trailers)
	slices.SortFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	if b.emit(context.Background(), event{Type: "status", Status: describe(err),
		Trailers: all}) == nil {
		_ = b.socket.Close(websocket.StatusNormalClosure, "") // The page has everything.
	}
}
