package clienttest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between client and server, and cuts connections in the middle of whatever is under
// way.
type Proxy struct {
	// Address is where clients connect, backend where the proxy connects for each of them.
	Address string
	backend string

	mu sync.Mutex
	// conns are both ends of each open connection, for CutAll.
	conns map[net.Conn]bool
	// cuts are how many bytes, both ways together, each of the next connections may carry.
	cuts []int
	// held is what happens, once, when so many bytes have come.
	held   func()
	holdAt int
	// lost says that everything is cut after that.
	lost bool
}

// NewProxy starts a proxy of the server at an address.
func NewProxy(t *testing.T, backend string) *Proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: listener.Addr().String(), backend: backend, conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			// The listener was closed: the test is over.
			if err != nil {
				return
			}
			running.Go(func() { p.carry(conn) })
		}
	})
	// No new connection can come when the open ones are cut, so that Wait returns.
	t.Cleanup(func() {
		_ = listener.Close()
		p.CutAll()
		running.Wait()
	})
	return p
}

// CutAfter has the next connections end after so many bytes each; those after them are not cut.
func (p *Proxy) CutAfter(bytes ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = bytes
}

// HoldAfter calls do once so many bytes have come, both ways together, and passes nothing on until
// it returns. do must not call methods of the proxy, which is locked meanwhile.
func (p *Proxy) HoldAfter(bytes int, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The count begins anew here, whatever has come before.
	p.holdAt, p.held, p.lost = bytes, do, false
}

// LoseAfter is HoldAfter for bytes that never arrive: it cuts everything that is open when do
// returns.
func (p *Proxy) LoseAfter(bytes int, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holdAt, p.held, p.lost = bytes, do, true
}

// hold counts bytes that have come. The lock stops all directions of all connections while held
// runs.
func (p *Proxy) hold(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// It happens once, whatever comes later.
	if p.holdAt -= n; p.holdAt <= 0 && p.held != nil {
		p.held()
		p.held = nil
		if p.lost {
			p.cutAll()
		}
	}
}

// CutAll cuts everything that is open.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAll()
}

// cutAll needs the lock.
func (p *Proxy) cutAll() {
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// budget is how much a connection may still carry; one without a limit has none.
type budget struct {
	// mu guards the rest: the two directions of a connection take from one budget.
	mu      sync.Mutex
	limited bool
	left    int
}

// take returns how much of n may pass.
func (b *budget) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.limited {
		return n
	}
	n = min(n, b.left)
	b.left -= n
	return n
}

// carry connects to the backend and copies both ways until one of them ends, which ends the other.
func (p *Proxy) carry(client net.Conn) {
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.backend)
	// The client sees what it would see of a server that is gone.
	if err != nil {
		_ = client.Close()
		return
	}
	b := p.open(client, server)
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		both.Go(func() {
			p.pass(to, from, b)
			_ = client.Close()
			_ = server.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// open remembers the two ends of a connection, and gives it the next of the cuts as its budget.
func (p *Proxy) open(conns ...net.Conn) *budget {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
	if len(p.cuts) == 0 {
		return &budget{}
	}
	left := p.cuts[0]
	p.cuts = p.cuts[1:]
	return &budget{limited: true, left: left}
}

// pass copies one direction until a side closes, or the budget is used up: what it still allows of
// the last read is passed on, so that a message can be cut in its middle.
func (p *Proxy) pass(to io.Writer, from io.Reader, b *budget) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.hold(n)
		allowed := b.take(n)
		if _, writeErr := to.Write(buffer[:allowed]); err != nil || writeErr != nil || allowed < n {
			return
		}
	}
}
