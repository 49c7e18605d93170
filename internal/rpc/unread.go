package rpc

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
)

// unreadCalls knows the calls that have ended and have left messages that their clients have not
// taken. grpc-go's transport holds those, and the status behind them, for as long as the connection
// lasts: a reply of any size is accepted from a handler at once, whatever window the client has
// opened. So what a call has taken, its place and the memory that it has reserved, is given back
// when the transport holds nothing of it any more.
//
// A client that takes no byte of such a call for as long as a message may take loses its connection
// with all other calls on it: grpc-go can reset a single stream only before its status is written.
// Until then its caller may leave so many bytes, beyond which its calls are refused. When all leave
// more than there is room for, which one caller can do with calls that end at once, those are
// refused that leave any.
type unreadCalls struct {
	timeout time.Duration
	log     *slog.Logger
	// limit is how many bytes callers may leave together, and share how many one of them.
	limit, share int64
	left         atomic.Int64 // by all, the sum of bytes

	listening sync.RWMutex
	listeners []*bounded // which know the connections; listening guards them

	// mu guards what follows. Below it listening may be locked.
	mu     sync.Mutex
	calls  map[*sent]struct{}
	bytes  map[Caller]int64 // of calls that a sweep has found
	sweeps bool             // whether the next sweep is scheduled
}

// maxDrip is how many timeouts a call may take to be read to its end, so that a client which takes
// a byte now and then does not keep its places.
const maxDrip = 10

func newUnread(cfg ServerConfig, log *slog.Logger) *unreadCalls {
	limit := roomBytes(cfg)
	return &unreadCalls{timeout: cfg.SendTimeout, log: log, limit: limit, share: limit / 2,
		calls: map[*sent]struct{}{}, bytes: map[Caller]int64{}}
}

// listen returns lis, whose connections may be closed from now on.
func (u *unreadCalls) listen(lis *bounded) net.Listener {
	u.listening.Lock()
	defer u.listening.Unlock()
	u.listeners = append(u.listeners, lis)
	return lis
}

// begin is for a call that has taken what release gives back, at once if the call is refused.
func (u *unreadCalls) begin(
	ctx context.Context, fullMethod string, release func(),
) (*sent, error) {
	if u.left.Load() > 0 && !isBuiltIn(fullMethod) && u.full(CallerOf(ctx)) {
		release()
		return nil, Overloaded("the client does not take the replies to its calls")
	}
	c := &sent{Context: ctx, unread: u, release: release}
	c.held.Store(1)
	// net/http, which carries the calls with an exchange, returns from a write when the client has
	// taken it.
	if p, ok := peer.FromContext(ctx); ok && exchangeOf(ctx) == nil {
		c.remote = addrPort(p.Addr)
	}
	return c, nil
}

func (u *unreadCalls) full(caller Caller) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	left := u.bytes[caller]
	return left >= u.share || left > 0 && u.left.Load() >= u.limit
}

// sent is what the transport holds of the messages of a call, and the context of its handler.
type sent struct {
	context.Context
	unread  *unreadCalls
	remote  netip.AddrPort // of the client; without one nothing is counted
	release func()
	held    atomic.Int64 // buffers, and one for the handler
	bytes   atomic.Int64 // in these buffers
	taken   atomic.Bool  // whether the client has taken a part of one since the last sweep

	// moved is when a sweep last found that the client has taken something, or that there was nothing
	// to take. incoming.mu guards it until the call has ended, then unread.mu.
	moved time.Time
	// What follows is set when the call has ended, and guarded by unread.mu.
	ended   time.Time
	conn    *net.TCPConn // nil until a sweep has found it
	caller  Caller       // the same
	counted int64        // bytes that count for the caller
}

// sentKey is for the sent of a call.
type sentKey struct{}

// Value implements context.Context.
func (c *sent) Value(key any) any {
	if key == (sentKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// send hands a message to the transport.
func (c *sent) send(stream grpc.ServerStream, msg *encoded) error {
	if !c.remote.IsValid() {
		return stream.SendMsg(msg)
	}
	msg.hold(c)
	err := stream.SendMsg(msg)
	if err != nil || stream.Context().Err() != nil {
		// The transport may have dropped the message of a stream that was reset meanwhile, and frees
		// nothing then. As long as the context lives, it frees what it has accepted.
		msg.drop()
	}
	return err
}

// untaken is for how long the client has taken nothing of what there is. A handler may wait for
// that without a call of SendMsg.
func (c *sent) untaken(now time.Time) time.Duration {
	if c.taken.Swap(false) || c.bytes.Load() == 0 || c.moved.IsZero() {
		c.moved = now
	}
	return now.Sub(c.moved)
}

// end is called once, when the handler has returned and nothing more is sent.
func (c *sent) end() {
	u := c.unread
	// The transport frees nothing of a connection that has broken.
	if c.held.CompareAndSwap(1, 0) || c.Err() != nil && u.find(c.remote) == nil {
		c.release()
		return
	}
	u.mu.Lock()
	c.ended = time.Now()
	c.moved = c.ended
	u.calls[c] = struct{}{}
	u.schedule()
	u.mu.Unlock()
	c.free()
}

// free counts a buffer less.
func (c *sent) free() {
	if c.held.Add(-1) > 0 {
		return
	}
	u := c.unread
	u.mu.Lock()
	_, left := u.calls[c]
	u.forget(c)
	u.mu.Unlock()
	if left { // A sweep may have been first.
		c.release()
	}
}

// forget has a call count no more. The caller holds the lock.
func (u *unreadCalls) forget(c *sent) {
	delete(u.calls, c)
	u.count(c, 0)
}

// count has a call count with so many bytes. The caller holds the lock.
func (u *unreadCalls) count(c *sent, bytes int64) {
	if bytes == c.counted {
		return
	}
	u.left.Add(bytes - c.counted)
	if u.bytes[c.caller] += bytes - c.counted; u.bytes[c.caller] == 0 {
		delete(u.bytes, c.caller)
	}
	c.counted = bytes
}

// schedule has the next sweep come, unless it will already. The caller holds the lock.
func (u *unreadCalls) schedule() {
	if u.sweeps || len(u.calls) == 0 {
		return
	}
	u.sweeps = true
	time.AfterFunc(u.interval(), u.sweep)
}

func (u *unreadCalls) interval() time.Duration {
	return min(max(u.timeout/10, time.Millisecond), time.Second)
}

// sweep closes the connections of clients that do not take what is left, and forgets the calls of
// those that are closed: the transport does not free what it held for them.
func (u *unreadCalls) sweep() {
	now := time.Now()
	var gone []*sent
	late := map[*net.TCPConn]struct{}{}
	u.mu.Lock()
	u.sweeps = false
	for c := range u.calls {
		if now.Sub(c.ended) < u.interval() {
			continue // Nearly all are taken before the next sweep.
		}
		if c.conn == nil {
			c.conn, c.caller = u.find(c.remote), CallerOf(c)
		}
		u.count(c, c.bytes.Load())
		switch {
		case c.conn == nil || isClosed(c.conn):
			u.forget(c)
			gone = append(gone, c)
		case c.untaken(now) >= u.timeout || now.Sub(c.ended) >= maxDrip*u.timeout:
			late[c.conn] = struct{}{}
		}
	}
	u.schedule()
	u.mu.Unlock()
	for _, c := range gone {
		c.release()
	}
	for conn := range late {
		_ = conn.Close() // The next sweep finds it closed.
	}
	if len(late) > 0 {
		u.log.Warn("connections closed whose clients did not take the replies to their calls",
			"connections", len(late), "timeout", u.timeout)
	}
}

// find returns the connection with a client, nil if it has been closed.
func (u *unreadCalls) find(remote netip.AddrPort) *net.TCPConn {
	u.listening.RLock()
	defer u.listening.RUnlock()
	for _, lis := range u.listeners {
		if conn := lis.find(remote); conn != nil {
			return conn
		}
	}
	return nil
}

// WhenSent runs release when the handler of the call has returned and the transport holds none of
// its messages any more. It is for what the messages take: a handler is done with a message long
// before a client that reads slowly has it. Outside of calls it runs at once.
func WhenSent(ctx context.Context, release func()) {
	c, ok := ctx.Value(sentKey{}).(*sent)
	if !ok {
		release()
		return
	}
	before := c.release
	c.release = func() {
		release()
		before()
	}
}

// encoded is a message as it is sent, for a codec that leaves it as it is.
type encoded struct {
	data mem.BufferSlice
	size int // of the message in protobuf, as all messages are counted
	// first is the buffer of nearly all messages.
	first piece
}

// Size is what telemetry counts.
func (e *encoded) Size() int { return e.size }

// hold has the buffers count as held until the transport frees them.
func (e *encoded) hold(by *sent) {
	if len(e.data) == 0 {
		e.data = mem.BufferSlice{mem.SliceBuffer(nil)} // An empty message is held too, with its prefix.
	}
	for i, buffer := range e.data {
		p := &e.first
		if i > 0 {
			p = new(piece)
		}
		p.Buffer, p.by, p.bytes = buffer, by, int64(buffer.Len()+1) // 1 for the prefix
		p.references.Store(1)
		by.held.Add(1)
		by.bytes.Add(p.bytes)
		e.data[i] = p
	}
}

// drop has the buffers count no more, whether they are freed or not.
func (e *encoded) drop() {
	for _, buffer := range e.data {
		buffer.(*piece).drop()
	}
}

// piece is a buffer that tells what becomes of it. Of mem.Buffer it has all but what is below.
type piece struct {
	mem.Buffer
	by         *sent
	bytes      int64
	references atomic.Int32
	dropped    atomic.Bool
}

// Ref implements mem.Buffer.
func (p *piece) Ref() {
	p.references.Add(1)
	p.Buffer.Ref()
}

// Free implements mem.Buffer.
func (p *piece) Free() {
	p.Buffer.Free()
	if p.references.Add(-1) == 0 {
		p.drop()
	}
}

// ReadOnlyData implements mem.Buffer. The transport asks for it each time that it writes a part.
func (p *piece) ReadOnlyData() []byte {
	p.by.taken.Store(true)
	return p.Buffer.ReadOnlyData()
}

func (p *piece) drop() {
	if p.dropped.CompareAndSwap(false, true) {
		p.by.bytes.Add(-p.bytes)
		p.by.free()
	}
}
