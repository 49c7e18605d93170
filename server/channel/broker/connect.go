package broker

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"example.com/quartet/internal/config"
)

const (
	// embeddedURL asks for a server inside this process.
	embeddedURL = "embedded:"

	// reconnectWait is the pause between two attempts to connect to the same server.
	reconnectWait = 500 * time.Millisecond
	// pingInterval bounds how long a connection that died without a word goes unnoticed: two of them.
	pingInterval = 10 * time.Second
)

// connect returns a connection that is possibly not there yet, and that never gives up: a broker
// that comes back after an hour, or with new credentials, finds this process still trying.
func (b *Broker) connect(address string) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name(b.opts.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		// By default the client gives up when a server has refused the credentials twice.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(pingInterval),
		// The client makes room for all at once, for each request of a batch.
		nats.SyncQueueLen(batchMessages + 1),
		// Nothing is buffered while disconnected: Publish tries again by itself, and only while its
		// caller waits for it.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(b.disconnected),
		nats.ReconnectErrHandler(b.notConnected),
		nats.ReconnectHandler(b.reconnected),
		nats.ErrorHandler(b.connectionError),
	}
	switch {
	case b.embedded != nil:
		options = append(options, nats.InProcessServer(doubting{b, b.embedded}))
		return nats.Connect("", options...)
	default:
		// The error has nothing of the URL in it, as that may have a password.
		if err := CheckURL(address); err != nil {
			return nil, fmt.Errorf("URL of the message broker: %w", err)
		}
		return nats.Connect(address, append(options, nats.SetCustomDialer(doubting{broker: b}))...)
	}
}

// doubting makes connections for nats.go, and puts the history in doubt before anything can arrive
// on them: behind the new connection may be another store. It is asked for each connection, the
// first and all later ones.
type doubting struct {
	broker   *Broker
	embedded *embedded
}

// Dial implements nats.CustomDialer.
func (d doubting) Dial(network, address string) (net.Conn, error) {
	d.broker.doubt()
	dialer := net.Dialer{Timeout: nats.DefaultTimeout}
	return dialer.Dial(network, address)
}

// InProcessConn implements nats.InProcessConnProvider.
func (d doubting) InProcessConn() (net.Conn, error) {
	d.broker.doubt()
	return d.embedded.InProcessConn()
}

// CheckURL returns an error unless Open takes the url. It has nothing of a password in it.
func CheckURL(url string) error {
	if url == embeddedURL {
		return nil
	}
	elements := strings.Split(url, ",")
	for i, element := range elements {
		err := checkElement(element)
		switch {
		case err == nil:
		case len(elements) == 1:
			return err
		default:
			return fmt.Errorf("number %d of its list %w", i+1, err)
		}
	}
	return nil
}

// checkElement checks one server of a list. Paths and queries are refused, since NATS would ignore
// them.
func checkElement(element string) error {
	u, err := config.ParseURL(element, "nats")
	if err == nil && strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		err = errors.New("has something behind the host, expected nats://host:port alone")
	}
	return err
}

// errConnecting says that there is no connection, and that no attempt has failed so far with a
// reason.
var errConnecting = errors.New("not connected yet")

// reason replaces an error of nats.go that would mislead the operator: while there is no connection
// each request fails because "the buffer is full", which has no room on purpose. In its place comes
// why there is no connection. Other errors are returned as they are.
func (b *Broker) reason(err error) error {
	if !errors.Is(err, nats.ErrReconnectBufExceeded) {
		return err
	}
	if why := b.unconnected.Load(); why != nil {
		return *why
	}
	return errConnecting
}

// notConnected is called by nats.go after each attempt to connect that has failed.
func (b *Broker) notConnected(_ *nats.Conn, err error) {
	if !errors.Is(err, nats.ErrNoServers) { // It comes first, and says nothing.
		b.unconnected.Store(&err)
	}
}

// disconnected is called by nats.go when a connection has ended, which it then makes anew.
func (b *Broker) disconnected(_ *nats.Conn, err error) {
	if err != nil { // nil if we closed it
		b.log.Warn("disconnected from the message broker", "error", err)
	}
}

// reconnected is called by nats.go when there is a connection again. What was announced meanwhile
// is lost: checkHistorySoon checks the history, and then has all channels polled.
func (b *Broker) reconnected(nc *nats.Conn) {
	b.log.Info("connected to the message broker again", "server", nc.ConnectedServerName())
	b.checkHistorySoon()
}

// connectionError is called by nats.go for what belongs to no request, such as permissions that are
// missing or messages that nothing has taken in time.
func (b *Broker) connectionError(_ *nats.Conn, _ *nats.Subscription, err error) {
	b.log.Warn("message broker", "error", err)
	if errors.Is(err, nats.ErrSlowConsumer) {
		// Announcements were dropped.
		b.pollHubs()
	}
}
