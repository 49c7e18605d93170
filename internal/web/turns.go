package web

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync"
	"time"

	"connectrpc.com/connect"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/shares"
)

// turnTime is how long a request may have its turn. One that takes longer waits for its client, or
// for what its service waits for, and needs no processor meanwhile.
const turnTime = time.Millisecond

// turns bounds how many requests of one caller are worked on at once. A request by HTTP costs
// several times as much as a call of the main port, and many at once would have the goroutines of
// all other callers wait behind theirs for a processor. Requests beyond it wait in turn, which
// costs nothing; they are not refused, unless more wait than there may be calls.
type turns struct {
	*shares.Shares
	calls  *rpc.Server
	errors *connect.ErrorWriter
}

func newTurns(cfg Config, limits rpc.ServerConfig, calls *rpc.Server) *turns {
	each := cmp.Or(cfg.ProcessorsPerCaller, max(1, runtime.GOMAXPROCS(0)/2))
	most := max(limits.MaxInFlight, limits.MaxStreams)
	return &turns{shares.New(0, int64(each), int(most)), calls, connect.NewErrorWriter()}
}

// guard has requests wait for their turn.
func (t *turns) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := &turn{turns: t.Shares, ctx: r.Context(), caller: t.calls.CallerOfRequest(r)}
		err := own.take(t.Take)
		if errors.Is(err, shares.ErrTooManyWait) {
			t.refuse(w, r, rpc.Overloaded("too many calls of one caller wait"))
			return
		}
		if err != nil {
			return // The client is gone.
		}
		defer own.end()
		r.Body = &inTurn{r.Body, own}
		next.ServeHTTP(w, r)
	})
}

// turn is that of one request.
type turn struct {
	turns  *shares.Shares
	ctx    context.Context // of the request
	caller rpc.Caller

	mu    sync.Mutex
	late  *time.Timer // which gives the turn back
	taken func()      // gives it back; nil while the request does not have it
	ended bool
}

// take waits for the turn by Take or Retake, unless the request has it.
func (t *turn) take(take func(context.Context, any, int64) (func(), error)) error {
	t.mu.Lock()
	has := t.taken != nil || t.ended
	t.mu.Unlock()
	if has {
		return nil
	}
	giveBack, err := take(t.ctx, t.caller, 1)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		giveBack()
		return nil
	}
	t.taken = giveBack
	t.late = time.AfterFunc(turnTime, t.giveBack)
	return nil
}

func (t *turn) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken != nil {
		t.taken()
		t.taken = nil
	}
}

// end gives the turn back for good. A Read that still waits for one gets none.
func (t *turn) end() {
	t.mu.Lock()
	t.ended = true
	late := t.late
	t.mu.Unlock()
	late.Stop()
	t.giveBack()
}

// inTurn is the body of a request. While the client is slow to send it, the turn passes to other
// requests; what is done with the bytes needs another one. Otherwise many requests could wait with
// the last byte until none has a turn, and all be worked on at once.
type inTurn struct {
	io.ReadCloser
	turn *turn
}

// Read implements io.Reader. Only one goroutine reads.
func (b *inTurn) Read(p []byte) (n int, err error) {
	n, err = b.ReadCloser.Read(p)
	if ended := b.turn.take(b.turn.turns.Retake); ended != nil {
		return 0, ended // The client is gone.
	}
	return n, err
}

// refuse answers a request by its own protocol, without the way through gRPC, which costs as much
// as a call that is served.
func (t *turns) refuse(w http.ResponseWriter, r *http.Request, err error) {
	st, trailer := t.calls.Refuse(r, err)
	failure := connect.NewError(connect.Code(st.Code()), errors.New(st.Message()))
	for _, packed := range st.Proto().GetDetails() {
		// It fails for no message of this type.
		if detail, err := connect.NewErrorDetail(packed); err == nil {
			failure.AddDetail(detail)
		}
	}
	for key, values := range trailer {
		failure.Meta()[http.CanonicalHeaderKey(key)] = values
	}
	_ = t.errors.Write(w, r, failure) // It fails if the client is gone.
}
