package console

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// Peers counts to which servers the attempts of all calls of a client go. It is the stats handler
// of the client's connections, so that the steady traffic counts too, and it tells calls of the
// console which server answers them.
type Peers struct {
	// mu guards counts and what they point to. Each call of the client takes it twice, for a moment.
	mu     sync.Mutex
	counts map[peerKey]*peerCount
}

// NewPeers has counted nothing.
func NewPeers() *Peers { return &Peers{counts: map[peerKey]*peerCount{}} }

// peerKey is a method, as "package.Service/Method", and the address of a server.
type peerKey struct{ method, address string }

// peerCount is how many attempts began in each of the last periods, and how many are open.
type peerCount struct {
	// begun is a ring: period modulo periods is the index.
	begun  [periods]int
	period int64 // of the newest in begun
	open   int
	// last is when an attempt last began or ended.
	last time.Time
}

const (
	periods      = 6
	periodLength = 10 * time.Second
	// maxCounts bounds the memory that servers which come and go can take.
	maxCounts = 4096
)

// advance empties the periods that have passed without an attempt, and returns the index of now's.
// The caller holds the lock of Peers.
func (c *peerCount) advance(now time.Time) int {
	period := now.UnixNano() / int64(periodLength)
	// After a long pause all periods are empty; no more rounds are needed than there are.
	for range min(period-c.period, periods) {
		c.period++
		c.begun[c.period%periods] = 0
	}
	c.period = period
	return int(period % periods)
}

// watcher is told of the attempts of a call. It must not block: a connection waits for it.
type watcher interface {
	attempt(address string)
	header(metadata.MD)
}

// Keys of values in the contexts of calls.
type (
	watcherKey struct{}
	attemptKey struct{}
)

// attempt is one try of a call on one server.
type attempt struct {
	method string
	in     *peerCount // guarded by Peers.mu
}

// TagRPC implements stats.Handler.
func (p *Peers) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	// gRPC calls it once for each attempt. The name begins with a slash.
	return context.WithValue(ctx, attemptKey{}, &attempt{method: info.FullMethodName[1:]})
}

// HandleRPC implements stats.Handler.
func (p *Peers) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	// Now the attempt has a connection; one that never gets here has gone to no server.
	case *stats.OutHeader:
		a, _ := ctx.Value(attemptKey{}).(*attempt)
		if a == nil || s.RemoteAddr == nil {
			return
		}
		p.begin(a, s.RemoteAddr)
		if w, ok := ctx.Value(watcherKey{}).(watcher); ok {
			w.attempt(s.RemoteAddr.String())
		}
	case *stats.InHeader:
		if w, ok := ctx.Value(watcherKey{}).(watcher); ok {
			w.header(s.Header)
		}
	case *stats.End:
		if a, _ := ctx.Value(attemptKey{}).(*attempt); a != nil {
			p.end(a)
		}
	}
}

// TagConn implements stats.Handler.
func (p *Peers) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (p *Peers) HandleConn(context.Context, stats.ConnStats) {}

// begin counts an attempt at the server with the address.
func (p *Peers) begin(a *attempt, address net.Addr) {
	key, now := peerKey{a.method, address.String()}, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	count := p.counts[key]
	if count == nil {
		if len(p.counts) >= maxCounts {
			p.forget(now)
		}
		// With everything in use this attempt is not counted. The memory is worth more than the number.
		if len(p.counts) >= maxCounts {
			return
		}
		count = &peerCount{}
		p.counts[key] = count
	}
	count.begun[count.advance(now)]++
	count.open++
	count.last = now
	a.in = count
}

// end takes an attempt off those that are open. An attempt that was not counted has no count.
func (p *Peers) end(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.in != nil {
		a.in.open--
		a.in.last = time.Now()
		a.in = nil
	}
}

// forget drops servers that nothing has been sent to for as long as is counted. The caller holds
// the lock.
func (p *Peers) forget(now time.Time) {
	for key, count := range p.counts {
		if count.open == 0 && now.Sub(count.last) > periods*periodLength {
			delete(p.counts, key)
		}
	}
}

// Pod is a server that answers.
type Pod struct {
	// Address is where its connection goes: host:port.
	Address string `json:"address"`
	// Calls are the attempts of the last minute, and Share their part of all.
	Calls int     `json:"calls"`
	Share float64 `json:"share"`
	// Open are the attempts that are running.
	Open int `json:"open"`
	// Last is when an attempt last began or ended.
	Last time.Time `json:"last"`
}

// Of returns the servers that the calls of a method went to in the last minute; "" is for all
// methods.
func (p *Peers) Of(method string) []Pod {
	now := time.Now()
	p.mu.Lock()
	p.forget(now)
	// A server has an entry for each method; here they become one.
	pods, all := map[string]*Pod{}, 0
	for key, count := range p.counts {
		if method != "" && key.method != method {
			continue
		}
		pod := pods[key.address]
		if pod == nil {
			pod = &Pod{Address: key.address}
			pods[key.address] = pod
		}
		count.advance(now)
		for _, n := range count.begun {
			pod.Calls, all = pod.Calls+n, all+n
		}
		pod.Open += count.open
		if count.last.After(pod.Last) {
			pod.Last = count.last
		}
	}
	// What follows works on copies.
	p.mu.Unlock()
	sorted := make([]Pod, 0, len(pods))
	for _, pod := range pods {
		pod.Share = float64(pod.Calls) / float64(max(all, 1))
		sorted = append(sorted, *pod)
	}
	// The page shows them in the same order each time.
	slices.SortFunc(sorted, func(a, b Pod) int { return cmp.Compare(a.Address, b.Address) })
	return sorted
}

// servePods answers with the targets and with the servers that a method's calls went to, for the
// map of the page.
func (c *Console) servePods(w http.ResponseWriter, r *http.Request, _ rights) {
	writeJSON(
		w,
		map[string]any{"servers": c.servers(), "pods": c.Peers.Of(r.URL.Query().Get("method"))},
	)
}

// server is a target of the client, and whether one of its replicas takes calls.
type server struct {
	Target string `json:"target"`
	State  string `json:"state"`
}

// servers are the targets of all services, each once, with the state of their connection.
func (c *Console) servers() (all []server) {
	for _, service := range c.Services {
		// GetState does not connect: looking at the page changes nothing.
		s := server{service.Conn.Target(), service.Conn.GetState().String()}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
