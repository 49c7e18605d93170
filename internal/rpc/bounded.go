package rpc

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds are how many connections a port has open at most, over all and from one address.
type Bounds struct{ All, PerCaller int }

// Bound returns a listener that closes connections beyond the bounds at once. refused, if it is not
// nil, is called for each of those. It hands out connections as they are, because grpc-go sets
// TCP_USER_TIMEOUT only on a *net.TCPConn; so it learns that one has been closed by looking, when
// there seems to be no room.
func (b Bounds) Bound(lis net.Listener, refused func(remote net.Addr)) net.Listener {
	return b.bound(lis, refused)
}

func (b Bounds) bound(lis net.Listener, refused func(remote net.Addr)) *bounded {
	return &bounded{Listener: lis, bounds: b, refused: refused,
		open: map[netip.Prefix][]*net.TCPConn{}}
}

// lookInterval is how often closed connections are looked for at most, so that a flood of
// connections costs no more than they do.
const lookInterval = 100 * time.Millisecond

type bounded struct {
	net.Listener
	bounds  Bounds
	refused func(net.Addr)

	mu     sync.Mutex
	open   map[netip.Prefix][]*net.TCPConn // by caller, and some that have been closed
	count  int
	looked time.Time
}

// Accept implements net.Listener.
func (l *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if tcp, ok := conn.(*net.TCPConn); !ok || l.admit(tcp) {
			return conn, nil
		}
		if l.refused != nil {
			l.refused(conn.RemoteAddr())
		}
		_ = conn.Close() // It carried nothing.
	}
}

func (l *bounded) admit(conn *net.TCPConn) bool {
	caller := network(conn.RemoteAddr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hasRoom(caller) && time.Since(l.looked) >= lookInterval {
		l.forgetClosed()
	}
	if !l.hasRoom(caller) {
		return false
	}
	l.open[caller] = append(l.open[caller], conn)
	l.count++
	return true
}

// each calls look with each connection that is open, and with some that have been closed.
func (l *bounded) each(look func(*net.TCPConn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conns := range l.open {
		for _, conn := range conns {
			look(conn)
		}
	}
}

func (l *bounded) hasRoom(caller netip.Prefix) bool {
	return l.count < l.bounds.All && len(l.open[caller]) < l.bounds.PerCaller
}

func (l *bounded) forgetClosed() {
	l.count = 0
	for caller, conns := range l.open {
		open := conns[:0]
		for _, conn := range conns {
			if !isClosed(conn) {
				open = append(open, conn)
			}
		}
		clear(conns[len(open):])
		if l.count += len(open); len(open) == 0 {
			delete(l.open, caller)
		} else {
			l.open[caller] = open
		}
	}
	l.looked = time.Now()
}
