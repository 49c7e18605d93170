// Package console lets a person or a program call services from a browser: a page that shows what
// any service has by its descriptors, and the bridge behind it, which carries calls of all four
// modes over WebSockets. Each call goes over the client's own connections, with their balancing,
// retries, metrics and traces. It knows no service by name.
package console

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Service is a gRPC service that can be called.
type Service struct {
	Descriptor protoreflect.ServiceDescriptor
	// Conn is the client's connection to the target of the service, which other services may share.
	Conn *grpc.ClientConn
}

// Options are what a console shows and how it calls.
type Options struct {
	Config Config
	// Product and Version are what the page calls itself.
	Product, Version string
	Services         []Service
	// Contract is an encoded FileDescriptorSet with source information, from which comments are taken.
	// Without it there are none.
	Contract []byte
	// Peers counts the attempts of all calls on the connections, each of which has to have it as its
	// stats handler.
	Peers *Peers
	// Telemetry has the log, the tracer and the registry with the numbers that the page shows.
	Telemetry *telemetry.Telemetry
	// Resumption is how calls that ask for it are continued after a break.
	Resumption rpc.Resumption
	// Panels are what services add, each with a name of its own.
	Panels []Panel
}

// Console is a page and its bridge.
type Console struct {
	Options
	access  access
	methods map[string]method // by service/method
	// panels are by their names.
	panels map[string]Panel
	// catalogue is the JSON of /api/catalogue, made once.
	catalogue []byte
	numbers   numbers
	calls     calls
	convert   converter
	rollout   rollout
	mux       *http.ServeMux
}

// method is an RPC and the connection over which it is called.
type method struct {
	protoreflect.MethodDescriptor
	conn *grpc.ClientConn
	// input and output are the types of its messages, for JSON.
	input, output protoreflect.MessageType
}

//go:embed page
var files embed.FS

// New prepares a console. It fails if the contract cannot be read.
func New(o Options) (*Console, error) {
	access, err := newAccess(o.Config)
	if err != nil {
		return nil, err
	}
	c := &Console{
		Options: o,
		access:  access,
		methods: map[string]method{},
		mux:     http.NewServeMux(),
		convert: newConverter(),
		rollout: rollout{url: o.Config.RolloutURL, credentials: o.Config.RolloutCredentials},
	}
	c.calls = newCalls(o.Config.MaxCalls, o.Config.MaxCallsPerCaller)
	c.numbers.gather = o.Telemetry.Registry
	for _, service := range o.Services {
		for i := range service.Descriptor.Methods().Len() {
			d := service.Descriptor.Methods().Get(i)
			m := method{d, service.Conn, messageType(d.Input()), messageType(d.Output())}
			c.methods[methodName(m)] = m
		}
	}
	c.panels = map[string]Panel{}
	for _, panel := range o.Panels {
		c.panels[panel.Name] = panel
	}
	if c.catalogue, err = catalogue(o); err != nil {
		return nil, err
	}
	page, err := fs.Sub(files, "page")
	if err != nil {
		return nil, err
	}
	// The page itself is open: it has no secrets, and asks for the token.
	c.mux.Handle("GET /", http.FileServerFS(page))
	c.mux.HandleFunc("GET /api/catalogue", c.protected(c.serveCatalogue))
	c.mux.HandleFunc("GET /api/metrics", c.protected(c.serveMetrics))
	c.mux.HandleFunc("GET /api/pods", c.protected(c.servePods))
	// A WebSocket begins with a GET.
	c.mux.HandleFunc("GET /api/call", c.protected(c.serveCall))
	c.mux.HandleFunc("POST /api/ticket", c.protected(c.serveTicket))
	if o.Config.RolloutURL != "" {
		c.mux.HandleFunc("POST /api/rollout", c.protected(c.serveRollout))
	}
	return c, nil
}

// methodName is what the page and metrics call a method: "package.Service/Method".
func methodName(m protoreflect.MethodDescriptor) string {
	return string(m.Parent().FullName()) + "/" + string(m.Name())
}

// isSafe tells whether the contract says that a method changes nothing.
func isSafe(m protoreflect.MethodDescriptor) bool {
	// A descriptor whose options are of another type has none that is known here.
	options, ok := m.Options().(interface{ GetIdempotencyLevel() idempotency })
	return ok && options.GetIdempotencyLevel() == noSideEffects
}

// pageHeaders let the page use its own files and nothing else, and no other page have it in a
// frame.
var pageHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"Cache-Control":                "no-cache",
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range pageHeaders {
		w.Header().Set(name, value)
	}
	// Before everything else, since the same-origin rule of browsers rests on the name.
	if !c.access.knowsHost(r) {
		http.Error(w, "this name is not among the console's origins", http.StatusMisdirectedRequest)
		return
	}
	// http.ServeMux would clean the path, see servePanel.
	if strings.HasPrefix(r.URL.Path, panelsPath) {
		c.servePanel(w, r)
		return
	}
	c.mux.ServeHTTP(w, r)
}

const (
	// A connection may be without a request for so long.
	idleTimeout = time.Minute
	headerBytes = 16 << 10
	// otherConnections is how many connections there may be besides those of calls, and half of it for
	// one address.
	otherConnections = 100
	// writeBuffer is how much of answers the kernel takes before a peer does; Linux makes it twice as
	// much. A write counts as taken when the kernel takes it, and Linux wakes a writer that waits only
	// when a third of the buffer is free. Left to itself the buffer grows to 4 MiB, and a peer that
	// reads 20 KiB/s all the time needs a minute for a third of that.
	writeBuffer = 256 << 10
)

// Serve answers on lis until ctx is done, and then closes what is left.
func (c *Console) Serve(ctx context.Context, lis net.Listener) error {
	server := &http.Server{
		Handler:        c,
		ReadTimeout:    c.Config.PeerTimeout / 3,
		WriteTimeout:   c.Config.PeerTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: headerBytes,
		ErrorLog:       telemetry.StandardLog(c.Telemetry.Log, "console", slog.LevelWarn),
	}
	var answering rpc.Answering
	server.ConnState = answering.Watch
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(writeBuffer) // It fails for one that is closed already.
		}
		return context.WithValue(ctx, connKey{}, conn)
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		// ctx is done, so that what is left of calls ends at once. In serve the drain has called Stop
		// before, with time.
		c.Stop(ctx)
		answering.ResetOnClose()
		_ = server.Close() // What is not read by now is lost.
	})
	defer stop()
	bounds := rpc.Bounds{
		// Each call holds a connection of its own; the page and its files need some besides.
		All:       c.Config.MaxCalls + otherConnections,
		PerCaller: c.Config.MaxCallsPerCaller + otherConnections/2,
	}
	if err := server.Serve(bounds.Bound(lis, nil)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	// Serve returns when Close begins, before the calls have ended.
	<-closed
	return nil
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// errStopping ends the calls of a console that stops.
var errStopping = status.Error(codes.Unavailable, "the client is stopping")

// Stop refuses calls from now on, lets open ones end until ctx is done, and then ends them with
// UNAVAILABLE.
func (c *Console) Stop(ctx context.Context) { c.calls.stop(ctx) }

// calls are those that are open, with a bound over all and one for each caller.
type calls struct {
	all, perCaller int

	// mu guards what follows.
	mu       sync.Mutex
	open     map[*openCall]bool
	callers  map[rpc.Caller]int
	stopping bool
	changed  chan struct{} // closed, and another one, when a call has ended
}

// openCall is a call with a place; cancel ends it with a reason.
type openCall struct {
	caller rpc.Caller
	cancel context.CancelCauseFunc
}

// newCalls makes the bounds: all over all callers, perCaller for each.
func newCalls(all, perCaller int) calls {
	return calls{
		all: all, perCaller: perCaller,
		open: map[*openCall]bool{}, callers: map[rpc.Caller]int{}, changed: make(chan struct{}),
	}
}

// begin takes a place for a call, until end. It returns the status with which a call is refused
// that gets none.
func (c *calls) begin(
	cancel context.CancelCauseFunc,
	caller rpc.Caller,
) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopping:
		return nil, errStopping
	case len(c.open) >= c.all:
		return nil, status.Errorf(
			codes.ResourceExhausted,
			"%d calls are open at this console already, which is the most",
			c.all,
		)
	case c.callers[caller] >= c.perCaller:
		return nil, status.Errorf(
			codes.ResourceExhausted,
			"%d calls are open from this address already, which is the most",
			c.perCaller,
		)
	}
	call := &openCall{caller, cancel}
	c.open[call] = true
	c.callers[caller]++
	return func() { c.end(call) }, nil
}

// end gives the place of a call back, and wakes stop.
func (c *calls) end(call *openCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, call)
	if c.callers[call.caller]--; c.callers[call.caller] == 0 {
		delete(c.callers, call.caller)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// stop refuses new calls and waits for the open ones. When ctx is done it cancels those, without
// waiting for them to notice.
func (c *calls) stop(ctx context.Context) {
	for {
		c.mu.Lock()
		c.stopping = true
		// changed is read under the lock: a call that ends from here on closes this one.
		open, changed := len(c.open), c.changed
		if ctx.Err() != nil {
			for call := range c.open {
				call.cancel(errStopping)
			}
		}
		c.mu.Unlock()
		if open == 0 || ctx.Err() != nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
