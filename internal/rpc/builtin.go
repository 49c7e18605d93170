package rpc

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// isBuiltIn is true for the services that every server has beside its own.
func isBuiltIn(fullMethod string) bool {
	return telemetry.IsBuiltIn(strings.TrimPrefix(fullMethod, "/"))
}

// builtInBytes is the size of the largest request to health and reflection, which name a service,
// a symbol or a file. A watch of the health keeps its request.
const builtInBytes = 1 << 10

// builtInAge is how long a stream of health or reflection may last. The connections of clients
// that heed MAX_CONNECTION_AGE do not last as long.
const builtInAge = 10 * time.Minute

// endGrace is how long a stream of a built-in service has to end by itself, so that a watch of the
// health still sends what it has.
const endGrace = 100 * time.Millisecond

// endBuiltIn ends the streams of health and reflection at a certain age, and with a drain, as
// grpc-go does not: each client holds a Watch for as long as it has a connection, and GracefulStop
// would wait for all of them. The handler may be waiting for a message, which no context of ours
// interrupts; grpc-go ends that wait when this interceptor has returned.
func (s *Server) endBuiltIn(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if !isBuiltIn(info.FullMethod) {
		return handler(srv, stream)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var err error
	ended, reason := make(chan struct{}), "the server is stopping"
	go func() {
		defer close(ended)
		err = handler(srv, &builtInStream{stream, ctx})
	}()
	age := time.NewTimer(builtInAge)
	defer age.Stop()
	select {
	case <-ended:
		return err
	case <-s.stopping.Done():
	case <-age.C:
		reason = "the stream is old, begin another one"
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(endGrace):
	}
	return status.Error(codes.Unavailable, reason)
}

type builtInStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *builtInStream) Context() context.Context { return s.ctx }

// silent knows the connections that have brought no call yet. grpc-go's GracefulStop waits for
// handshakes before it tells clients that the server is stopping, so that one connection without a
// byte would hold up the whole drain. To wrap the connections would be simpler, but grpc-go sets
// TCP_USER_TIMEOUT only on a *net.TCPConn.
type silent struct {
	count atomic.Int64 // of open, so that most calls need no lock

	mu   sync.Mutex
	open map[netip.AddrPort]*net.TCPConn // by the address of the peer
	// how many there may be before the closed ones are looked for
	limit  int
	closed bool
}

// minSilent is how many connections are kept before it is worth looking for those that are
// closed.
const minSilent = 64

func newSilent() *silent {
	return &silent{open: map[netip.AddrPort]*net.TCPConn{}, limit: minSilent}
}

// listen returns lis, and has each connection that it accepts count as silent.
func (s *silent) listen(lis net.Listener) net.Listener { return silentListener{lis, s} }

type silentListener struct {
	net.Listener
	silent *silent
}

func (l silentListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		l.silent.add(tcp)
	}
	return conn, err
}

func (s *silent) add(conn *net.TCPConn) {
	remote := addrPort(conn.RemoteAddr())
	if !remote.IsValid() {
		return // It is closed already.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return
	}
	if len(s.open) >= s.limit {
		for address, conn := range s.open {
			if isClosed(conn) {
				delete(s.open, address)
			}
		}
		s.limit = max(minSilent, 2*len(s.open))
	}
	s.open[remote] = conn
	s.count.Store(int64(len(s.open)))
}

func isClosed(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// spoke notes a call, whose context names the peer.
func (s *silent) spoke(ctx context.Context) {
	if s.count.Load() == 0 {
		return
	}
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, addrPort(caller.Addr))
	s.count.Store(int64(len(s.open)))
}

// close closes the connections that are silent, those that are still to come too.
func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.open {
		_ = conn.Close() // It may be closed already.
	}
}
