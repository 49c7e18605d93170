package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
)

// Panel is what a service adds to the console: a page for what it is for, with requests of its own.
// It is under /panels/<Name>/, and the console's page links to it.
type Panel struct {
	// Name is one segment of a path: "echo". Title is what people read.
	Name, Title string
	// Page has index.html and what belongs to it. Like the console's own files, which it may use by
	// "../../style.css", it is open to every peer that reaches the port, under the same
	// Content-Security-Policy.
	Page fs.FS
	// API answers requests under /panels/<Name>/api/, with that taken off their path. They have passed
	// the checks of host, origin and token: with the token for reading there are only GET, HEAD and
	// OPTIONS, and no WebSocket. Each is one of the calls that Config.MaxCalls bounds, and has a
	// context that ends when the console stops. How long a peer may be silent or slow is bounded, how
	// long the request takes is not.
	API http.Handler
}

// panelsPath is what all panels are under.
const panelsPath = "/panels/"

// servePanel answers what is under panelsPath. It takes paths as they are: a path that is cleaned
// could not carry every name.
func (c *Console) servePanel(w http.ResponseWriter, r *http.Request) {
	name, rest, inside := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), panelsPath), "/")
	panel, known := c.panels[name]
	switch base := panelsPath + name; {
	case !known:
		http.NotFound(w, r)
	// Links of the page are relative, and need the slash at the end.
	case !inside:
		http.Redirect(w, r, base+"/", http.StatusPermanentRedirect)
	case strings.HasPrefix(rest, "api/"):
		c.protected(func(w http.ResponseWriter, r *http.Request, granted rights) {
			c.servePanelAPI(w, r, granted, http.StripPrefix(base+"/api", panel.API))
		})(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this is a page", http.StatusMethodNotAllowed)
	default:
		http.StripPrefix(base, http.FileServerFS(panel.Page)).ServeHTTP(w, r)
	}
}

// servePanelAPI passes a request to the API of a panel, in one of the places that calls have.
func (c *Console) servePanelAPI(
	w http.ResponseWriter,
	r *http.Request,
	granted rights,
	api http.Handler,
) {
	if granted < everything && !isRead(r) {
		http.Error(w, "this token may only read", http.StatusForbidden)
		return
	}
	// calls.stop cancels it when the console stops.
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), rightsKey{}, granted))
	defer cancel(nil)
	end, err := c.calls.begin(cancel, rpc.CallerAt(r.RemoteAddr))
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, status.Convert(err).Message(), http.StatusServiceUnavailable)
		return
	}
	defer end()
	defer func() {
		// What the API has not written to the end has no other end.
		if aborted := recover(); aborted != nil {
			conn, ok := ctx.Value(connKey{}).(net.Conn)
			if ok && errors.Is(context.Cause(ctx), errStopping) {
				rpc.ResetOnClose(conn)
			}
			panic(aborted)
		}
	}()
	p := &paced{
		ResponseWriter: w, control: http.NewResponseController(w), body: r.Body,
		silence: c.Config.PeerTimeout,
	}
	// Without a body to come, net/http reads to notice that the peer is gone, and would take it for
	// gone when a deadline comes. It has cleared that of the request.
	if r.ContentLength != 0 {
		p.limitRest()
	}
	r = r.WithContext(ctx)
	r.Body = pacedBody{p}
	api.ServeHTTP(p, r)
	// For what net/http has still to send: all of an answer without a body.
	_ = p.control.SetWriteDeadline(time.Now().Add(p.silence))
}

// rightsKey is the key of a request's rights in its context.
type rightsKey struct{}

// MayWrite tells whether a request to the API of a panel may change anything, also where it is a
// GET or HEAD. It has the context of the request.
func MayWrite(ctx context.Context) bool {
	granted, _ := ctx.Value(rightsKey{}).(rights)
	return granted == everything
}

// isRead tells whether a request changes nothing.
func isRead(r *http.Request) bool {
	switch r.Method {
	// An upgrade to WebSocket begins with a GET, but what follows may do anything.
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.Header.Get("Upgrade") == ""
	default:
		return false
	}
}

const (
	// slowest is how many bytes of a request have to come in a second of waiting for them, over all
	// but the first seconds, of which there are as many as may be silent.
	slowest = 1 << 10
	// piece is how much of an answer has to be taken within the time for which a peer may be silent.
	piece = 64 << 10
)

// ErrSlow says that a request comes too slowly.
var ErrSlow = errors.New("the request came too slowly")

// paced bounds how slow a peer may be, in place of how long a whole request may take.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser
	// silence is how long the peer may be silent, while its request or the answer is on its way.
	silence time.Duration
	// waited is how long has been waited for the bytes that came of the body.
	waited time.Duration
	// came is how many bytes of the body have come.
	came int64
}

// Unwrap is for http.ResponseController.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// limitRest limits the time for what a panel does not read of a body: net/http reads it before it
// sends the answer, which needs the rest of the time that its first piece has.
func (p *paced) limitRest() { _ = p.control.SetReadDeadline(time.Now().Add(p.silence / 2)) }

// SetReadDeadline leaves the deadlines to Read and Write, also where a library sets its own.
func (p *paced) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is the same for Write.
func (p *paced) SetWriteDeadline(time.Time) error { return nil }

// Write implements io.Writer.
func (p *paced) Write(data []byte) (n int, err error) {
	// The loop is entered once for no data, too, since Write of nothing sends the headers.
	for first := true; err == nil && (first || n < len(data)); first = false {
		// Each piece has its own time, so that a slow peer can take a large answer as long as it takes
		// some.
		if err = p.control.SetWriteDeadline(time.Now().Add(p.silence)); err != nil {
			return n, err
		}
		var written int
		written, err = p.ResponseWriter.Write(data[n:min(len(data), n+piece)])
		n += written
	}
	return n, err
}

// pacedBody is the body of the request. It is another type because a writer must not have a Close.
type pacedBody struct{ *paced }

// Read implements io.Reader. It returns ErrSlow, or os.ErrDeadlineExceeded after a silence.
func (b pacedBody) Read(into []byte) (int, error) {
	began := time.Now()
	if err := b.control.SetReadDeadline(began.Add(b.silence)); err != nil {
		return 0, err
	}
	// The first Read of a request with "Expect: 100-continue" has net/http write "100 Continue". The
	// API may have waited for a server before it, for longer than http.Server.WriteTimeout.
	if err := b.control.SetWriteDeadline(began.Add(b.silence)); err != nil {
		return 0, err
	}
	n, err := b.body.Read(into)
	b.waited += time.Since(began)
	b.came += int64(n)
	// The first seconds are free: a request that begins slowly is not refused for it.
	if err == nil && b.waited > b.silence+time.Duration(b.came)*time.Second/slowest {
		err = ErrSlow
	}
	switch {
	case errors.Is(err, io.EOF):
		// The answer may take its time, see servePanelAPI.
		_ = b.control.SetReadDeadline(time.Time{})
	case err != nil:
		b.limitRest()
	}
	return n, err
}

// Close implements io.Closer.
func (b pacedBody) Close() error { return b.body.Close() }

// WatchPeers returns a context whose calls tell the address of the server to which each of their
// attempts goes, as long as the connection has Peers as its stats handler. The function must not
// block.
func WatchPeers(ctx context.Context, attempt func(address string)) context.Context {
	return context.WithValue(ctx, watcherKey{}, watcher(peerFunc(attempt)))
}

// peerFunc makes a function a watcher that has no use for headers.
type peerFunc func(address string)

// attempt and header implement watcher.
func (f peerFunc) attempt(address string) { f(address) }
func (f peerFunc) header(metadata.MD)     {}

// serveTicket gives a ticket for a GET of a panel, see access.ticket.
func (c *Console) serveTicket(w http.ResponseWriter, r *http.Request, _ rights) {
	var wanted struct{ Path string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, headerBytes)).Decode(&wanted)
	if err != nil || !strings.HasPrefix(wanted.Path, panelsPath) {
		http.Error(w, `expected {"path": "/panels/…"}`, http.StatusBadRequest)
		return
	}
	ticket, err := c.access.ticket(wanted.Path, time.Now())
	if err != nil {
		http.Error(w, "the path is none", http.StatusBadRequest)
		return
	}
	writeJSON(w, map[string]string{"ticket": ticket})
}

// Code is the code of an error of a call, for pages and their requests. What package rpc says
// without a status of a server, as that attempts were given up, may go better later: Unavailable.
func Code(err error) codes.Code {
	for _, temporary := range []error{rpc.ErrGaveUp, rpc.ErrStalled, rpc.ErrEnded} {
		if errors.Is(err, temporary) {
			return codes.Unavailable
		}
	}
	return status.Code(err)
}

// HTTPStatus is the status code of HTTP that says what an error of a call says. What a caller may
// try again later is 503, also what gRPC calls RESOURCE_EXHAUSTED with a delay.
func HTTPStatus(err error) int {
	switch Code(err) {
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.OutOfRange, codes.Aborted, codes.AlreadyExists, codes.FailedPrecondition:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.ResourceExhausted, codes.Unavailable, codes.Canceled:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.Unimplemented:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}
