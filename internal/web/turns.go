package web

import (
	"cmp"
	"errors"
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
		giveBack, err := t.Take(r.Context(), rpc.CallerOfRequest(r), 1)
		if errors.Is(err, shares.ErrTooManyWait) {
			t.refuse(w, r, rpc.Overloaded("too many calls of one caller wait"))
			return
		}
		if err != nil {
			return // The client is gone.
		}
		giveBack = sync.OnceFunc(giveBack)
		late := time.AfterFunc(turnTime, giveBack)
		defer func() {
			late.Stop()
			giveBack()
		}()
		next.ServeHTTP(w, r)
	})
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
