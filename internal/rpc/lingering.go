package rpc

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// lingerTime is how long a client has to read why its certificate was refused.
	lingerTime = time.Second
	// lingerBytes is how much of what the client sends meanwhile is thrown away.
	lingerBytes = 64 << 10
)

// lingering is the connection of a handshake. If that fails, it closes only after the client has
// had the time to read the alert of TLS which says why. A client of TLS 1.3 has sent its first
// frames by then, and to close a connection with something that was not read resets it, which takes
// the alert from the client too: it would see a broken pipe, and not that its certificate has
// expired.
type lingering struct {
	net.Conn
	established atomic.Bool
}

// Close implements net.Conn. After a handshake that failed it waits for the client, because grpc-go
// closes the connection at once when the handshake has returned.
func (c *lingering) Close() error {
	tcp, ok := c.Conn.(*net.TCPConn)
	if ok && !c.established.Load() && tcp.CloseWrite() == nil &&
		tcp.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// It ends with the client's side, or with the deadline.
		_, _ = io.CopyN(io.Discard, tcp, lingerBytes)
	}
	return c.Conn.Close()
}
