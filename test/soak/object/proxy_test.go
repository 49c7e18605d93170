package soak

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"example.com/quartet/internal/rpc"
)

// wire is what a proxy does to the bytes that come to it.
type wire int

const (
	pass   wire = iota
	stall       // hold them back
	drop        // drop them, as a peer does that has gone without closing
	refuse      // and end every new connection at once
)

func (w wire) String() string { return [...]string{"pass", "stall", "drop", "refuse"}[w] }

// proxy stands between the clients and one server, and has their connections fail as networks do.
type proxy struct {
	address string
	backend string
	counts  *counts
	ring    *ring

	network *rand.Rand // for injectFaults

	mu      sync.Mutex
	random  *rand.Rand // for all else
	stopped bool
	wire    wire
	changed chan struct{} // closed when wire is another one
	conns   map[net.Conn]bool
}

func newProxy(
	t *testing.T, seed uint64, number int, backend string, counts *counts, ring *ring,
) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		address: listener.Addr().String(), backend: backend, counts: counts, ring: ring,
		random: random(seed, "proxy", number), network: random(seed, "network", number),
		changed: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.set(pass)
		p.cutAll()
		running.Wait()
	})
	return p
}

// injectFaults makes faults until ctx is done, and ends them.
func (p *proxy) injectFaults(ctx context.Context) {
	chooser := p.network
	for wait(ctx, between(chooser, 50*time.Millisecond, 700*time.Millisecond)) {
		kind := pick(chooser, []choice[wire]{{6, pass}, {3, stall}, {1, drop}, {1, refuse}})
		p.ring.add("network", "%s: %s", p.backend, kind)
		p.counts.wires[kind].Add(1)
		if kind == pass {
			p.cutAll()
			continue
		}
		p.set(kind)
		long := 300 * time.Millisecond
		if chooser.IntN(4) == 0 {
			long = 2 * stallTimeout
		}
		wait(ctx, between(chooser, 10*time.Millisecond, long))
		p.set(pass)
		if kind == drop {
			p.cutAll() // What was dropped is missing from them.
		}
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cutAll()
}

func (p *proxy) set(w wire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wire = w
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// budget is how many bytes a connection may carry, both ways together, before it is cut.
type budget struct {
	mu   sync.Mutex
	left int
}

// take returns how many of n bytes may pass.
func (b *budget) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.left)
	b.left -= n
	return n
}

// newBudget has a third of the connections cut soon: in their handshake as likely as anywhere in a
// transfer.
func (p *proxy) newBudget() *budget {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.random.IntN(3) > 0 {
		return &budget{left: 1 << 62}
	}
	return &budget{left: p.random.IntN(64 << p.random.IntN(16))}
}

func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	if p.now() == refuse {
		return
	}
	server, err := net.Dial("tcp", p.backend)
	if err != nil {
		return
	}
	defer server.Close()
	p.keep(true, client, server)
	defer p.keep(false, client, server)
	b := p.newBudget()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		both.Go(func() {
			p.forward(to, from, b)
			_ = client.Close()
			_ = server.Close()
		})
	}
	both.Wait()
}

func (p *proxy) keep(open bool, conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if open {
			p.conns[conn] = true
		} else {
			delete(p.conns, conn)
		}
	}
}

func (p *proxy) now() wire {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wire
}

func (p *proxy) forward(to io.Writer, from io.Reader, b *budget) {
	buffer := make([]byte, 32<<10)
	dropping := false
	for {
		n, err := from.Read(buffer)
		dropping = p.hold() || dropping
		if dropping {
			n = 0
		}
		allowed := b.take(n)
		_, writeErr := to.Write(buffer[:allowed])
		if allowed < n {
			p.counts.cuts.Add(1)
		}
		if err != nil || writeErr != nil || allowed < n {
			return
		}
	}
}

// hold returns when bytes may pass, or at once and true when they are to be dropped.
func (p *proxy) hold() bool {
	for {
		p.mu.Lock()
		now, changed := p.wire, p.changed
		p.mu.Unlock()
		if now != stall {
			return now == drop
		}
		<-changed
	}
}

// wait returns false, and at once, when ctx is done.
func wait(ctx context.Context, d time.Duration) bool {
	_ = rpc.Sleep(ctx, d) // The caller asks ctx itself.
	return ctx.Err() == nil
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}
