package telemetry

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
)

// connections counts the network connections of one side. It keeps them and
// asks each whether it is still open when the metrics are read. To learn it
// from Close one would have to wrap them, and then grpc-go, which looks for a
// *net.TCPConn, sets no TCP_USER_TIMEOUT, by which connections to peers that
// have vanished end, and keeps a read buffer for each connection that is idle.
type connections struct {
	prometheus.Counter // of those opened
	number             prometheus.GaugeFunc

	// mu guards open and limit. Connections are added by handshakes, and looked at by scrapes.
	mu    sync.Mutex
	open  []syscall.RawConn // and some that were closed since the last look
	limit int               // how many there may be before the next look
}

// newConnections makes the two metrics of a side, "grpc_server" for example.
func newConnections(side string) *connections {
	c := &connections{limit: 64}
	c.Counter = prometheus.NewCounter(
		prometheus.CounterOpts{Name: side + "_connections_opened_total", Help: "Connections opened."},
	)
	c.number = prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: side + "_connections", Help: "Connections that are open."},
		c.look,
	)
	return c
}

// add counts a connection that was opened. One that has no file descriptor, as
// in tests within a process, is not among those that are open.
func (c *connections) add(conn net.Conn) {
	c.Inc()
	descriptor, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	// The RawConn is kept in place of the connection, which it does not keep open.
	raw, err := descriptor.SyscallConn()
	if err != nil {
		return // It is closed already.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, raw)
	// Without a scrape the list would grow for ever. Doubling the limit keeps the cost of a look small
	// for each connection.
	if len(c.open) >= c.limit {
		c.forgetClosed()
		c.limit = max(64, 2*len(c.open))
	}
}

// look is the number of connections that are open.
func (c *connections) look() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetClosed()
	return float64(len(c.open))
}

// forgetClosed drops connections whose file descriptor is closed, which Control reports without a
// system call. The caller holds the lock.
func (c *connections) forgetClosed() {
	c.open = slices.DeleteFunc(c.open, func(raw syscall.RawConn) bool {
		return raw.Control(func(uintptr) {}) != nil
	})
}

// Describe and Collect make the two metrics one collector.
func (c *connections) Describe(to chan<- *prometheus.Desc) {
	c.Counter.Describe(to)
	c.number.Describe(to)
}

// Collect is the other half of prometheus.Collector.
func (c *connections) Collect(to chan<- prometheus.Metric) {
	c.Counter.Collect(to)
	c.number.Collect(to)
}

// counted sees every connection before its handshake, however it was dialled or
// accepted.
type counted struct {
	credentials.TransportCredentials
	connections *connections
	telemetry   *Telemetry
}

// CountServerConnections returns credentials that count the connections which a
// server accepts with them, and those of them that come to nothing.
func (t *Telemetry) CountServerConnections(
	creds credentials.TransportCredentials,
) credentials.TransportCredentials {
	return counted{creds, t.server.connections, t}
}

// AcceptedConnection counts a connection that a server has accepted without such credentials.
func (t *Telemetry) AcceptedConnection(conn net.Conn) {
	// A *tls.Conn has no file descriptor, but the connection below it has.
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	t.server.connections.add(conn)
}

// CountClientConnections returns credentials that count the connections which a
// client opens with them.
func (t *Telemetry) CountClientConnections(
	creds credentials.TransportCredentials,
) credentials.TransportCredentials {
	return counted{creds, t.client.connections, t}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c counted) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c.connections.add(conn)
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.telemetry.server.handshakes.fail(c.telemetry.Log, conn.RemoteAddr(), handshakeReason(err), err)
	} else if c.Info().SecurityProtocol == "insecure" {
		// Without TLS there is no handshake to fail: the first bytes tell what the client speaks.
		if reason, err := greeting(conn); err != nil {
			c.telemetry.server.handshakes.fail(c.telemetry.Log, conn.RemoteAddr(), reason, err)
		}
	}
	return secured, info, err
}

// ClientHandshake implements credentials.TransportCredentials.
func (c counted) ClientHandshake(
	ctx context.Context,
	authority string,
	conn net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	c.connections.add(conn)
	return c.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c counted) Clone() credentials.TransportCredentials {
	// grpc-go clones credentials for each connection of a client.
	return counted{c.TransportCredentials.Clone(), c.connections, c.telemetry}
}
