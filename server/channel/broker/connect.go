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
	embeddedURL = "embedded:"

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
		if err := CheckURL(address); err != nil {
			return nil, fmt.Errorf("URL of the message broker: %w", err)
		}
		return nats.Connect(address, append(options, nats.SetCustomDialer(doubting{broker: b}))...)
	}
}

// doubting makes connections, and says so before anything can arrive on them.
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

func checkElement(element string) error {
	u, err := config.ParseURL(element, "nats")
	if err == nil && strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		err = errors.New("has something behind the host, expected nats://host:port alone")
	}
	return err
}

// errConnecting says that there is no connection and no reason for that yet.
var errConnecting = errors.New("not connected yet")

// reason puts why there is no connection in place of what nats.go says of the request then: that
// its buffer is full, which has no room on purpose.
func (b *Broker) reason(err error) error {
	if !errors.Is(err, nats.ErrReconnectBufExceeded) {
		return err
	}
	if why := b.unconnected.Load(); why != nil {
		return *why
	}
	return errConnecting
}

func (b *Broker) notConnected(_ *nats.Conn, err error) {
	if !errors.Is(err, nats.ErrNoServers) { // It comes first, and says nothing.
		b.unconnected.Store(&err)
	}
}

func (b *Broker) disconnected(_ *nats.Conn, err error) {
	if err != nil { // nil if we closed it
		b.log.Warn("disconnected from the message broker", "error", err)
	}
}

func (b *Broker) reconnected(nc *nats.Conn) {
	b.log.Info("connected to the message broker again", "server", nc.ConnectedServerName())
	b.settleSoon()
}

func (b *Broker) connectionError(_ *nats.Conn, _ *nats.Subscription, err error) {
	b.log.Warn("message broker", "error", err)
	if errors.Is(err, nats.ErrSlowConsumer) {
		// Announcements were dropped.
		b.pollHubs()
	}
}
