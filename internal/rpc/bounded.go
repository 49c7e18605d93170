package rpc

import (
	"maps"
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
		open: map[netip.Prefix]map[netip.AddrPort]*net.TCPConn{}}
}

// lookInterval is how often closed connections are looked for at most, so that a flood of
// connections costs no more than they do.
const lookInterval = 100 * time.Millisecond

type bounded struct {
	net.Listener
	bounds  Bounds
	refused func(net.Addr)

	mu sync.Mutex
	// open are the connections by caller and by the address of the peer, and some that have been
	// closed.
	open   map[netip.Prefix]map[netip.AddrPort]*net.TCPConn
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
	conns := l.open[caller]
	if conns == nil {
		conns = map[netip.AddrPort]*net.TCPConn{}
		l.open[caller] = conns
	}
	remote := addrPort(conn.RemoteAddr())
	if conns[remote] == nil { // Otherwise it is in the place of one that has been closed.
		l.count++
	}
	conns[remote] = conn
	return true
}

// find returns the connection with a peer, nil if it has been closed.
func (l *bounded) find(remote netip.AddrPort) *net.TCPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.open[network(net.TCPAddrFromAddrPort(remote))][remote]
	if conn == nil || isClosed(conn) {
		return nil
	}
	return conn
}

// addrPort is the address of a peer by TCP, and invalid of any other.
func addrPort(addr net.Addr) netip.AddrPort {
	tcp, _ := addr.(*net.TCPAddr)
	return tcp.AddrPort()
}

func (l *bounded) hasRoom(caller netip.Prefix) bool {
	return l.count < l.bounds.All && len(l.open[caller]) < l.bounds.PerCaller
}

func (l *bounded) forgetClosed() {
	l.count = 0
	for caller, conns := range l.open {
		maps.DeleteFunc(conns, func(_ netip.AddrPort, conn *net.TCPConn) bool { return isClosed(conn) })
		if l.count += len(conns); len(conns) == 0 {
			delete(l.open, caller)
		}
	}
	l.looked = time.Now()
}
