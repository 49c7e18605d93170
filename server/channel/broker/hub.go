package broker

import (
	"fmt"
	"net/url"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

const (
	// ringMessages and ringBytes bound what a channel keeps in memory for its subscribers, whatever
	// their number.
	ringMessages = 256
	ringBytes    = 1 << 20
	// messageOverhead is about what a message takes besides its body.
	messageOverhead = 512

	// pendingAnnouncements are those of all channels that wait for their hubs. Of the others is asked,
	// as of any that are lost.
	pendingAnnouncements = 256
)

// hub is what all subscribers of one channel in this process share: its latest messages in a ring,
// and the knowledge how far the channel has come. Subscribers take messages from the ring while
// they can and read the stream otherwise; the hub waits for none of them.
type hub struct {
	broker  *Broker
	channel string
	subject string
	live    *nats.Subscription
	refs    int // guarded by broker.mu
	// how many messages were announced or found out, since the hub began; changed with mu held
	known atomic.Int64

	mu    sync.Mutex
	ring  []Message // in order, but possibly with holes: Previous is as announced
	bytes int       // in the ring
	// of a subscriber that has received all that is known to be in the channel, in the ring or not
	front position
	// the latest that a poll has moved on, kept for subscribers that have not looked since
	quiet   position
	polled  uint64        // front.last at the last poll
	closed  bool          // the last subscriber has left
	err     error         // why there is nothing more to come
	changed chan struct{} // closed at the next change; nil if no subscriber waits
}

// acquire returns the hub of a channel, to be released.
func (b *Broker) acquire(channel string) (*hub, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed() {
		return nil, ErrClosed
	}
	h := b.hubs[channel]
	if h == nil {
		if len(b.hubs) >= b.opts.MaxChannels {
			return nil, ErrTooManyChannels
		}
		var err error
		if h, err = b.startHub(channel); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		b.hubs[channel] = h
	}
	h.refs++
	return h, nil
}

// release closes the hub after its last subscriber.
func (b *Broker) release(h *hub) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.refs--; h.refs > 0 {
		return
	}
	_ = h.live.Unsubscribe() // fails only if the connection is closed
	h.mu.Lock()
	h.empty(true)
	h.mu.Unlock()
	if b.hubs[h.channel] == h {
		delete(b.hubs, h.channel)
	}
}

// startHub does not wait for the broker: what is asked on the same connection afterwards is
// answered after the subscription took effect, so no message falls between the answer and the first
// announcement.
func (b *Broker) startHub(channel string) (*hub, error) {
	name := escape(channel)
	h := &hub{broker: b, channel: channel, subject: b.names.subject + name}
	var err error
	if h.live, err = b.nc.ChanSubscribe(b.names.live+name, b.announcements); err != nil {
		return nil, err
	}
	return h, nil
}

// announce hands announcements to the hubs, in their order, until the Broker is closed. That no hub
// needs a goroutine of its own for it makes silent channels cheap.
func (b *Broker) announce() {
	for {
		select {
		case msg := <-b.announcements:
			if h := b.hubOf(strings.TrimPrefix(msg.Subject, b.names.live)); h != nil {
				h.announced(msg)
			}
		case <-b.closed:
			return
		}
	}
}

// hubOf returns the hub of a channel by its escaped name, or nil.
func (b *Broker) hubOf(name string) *hub {
	channel, err := url.PathUnescape(name)
	if err != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hubs[channel]
}

// announced takes a message from the stream's announcements, which come in order but may be
// incomplete.
func (h *hub) announced(msg *nats.Msg) {
	m, err := h.broker.names.decode(msg)
	if err != nil {
		h.broker.log.Warn("unreadable announcement", "error", err)
		return
	}
	if front, contradicted := h.take(m); contradicted {
		h.broker.contradict(front)
	}
}

// take puts a message into the ring, unless it contradicts what is known of the channel up to its
// front.
func (h *hub) take(m Message) (front position, contradicted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return h.front, false
	}
	if h.contradicts(m) {
		return h.front, true
	}
	if newest := len(h.ring) - 1; newest >= 0 && m.Sequence <= h.ring[newest].Sequence {
		return h.front, false
	}
	h.broker.lineage.saw(m.Sequence, m.Time)
	h.ring = append(h.ring, m)
	h.grow(len(m.Body) + messageOverhead)
	for len(h.ring) > ringMessages || h.bytes > ringBytes ||
		len(h.ring) > 0 && h.broker.rings.Load() > ringsBytes {
		h.evict()
	}
	if m.Sequence > h.front.last {
		h.front = after(m)
		h.known.Add(1)
	}
	h.wake()
	return h.front, false
}

// contradicts says that a message cannot be in the history that the channel has had. What is
// announced late, or a second time by a new leader, is the same message as before, or older than
// the one that a poll has found.
func (h *hub) contradicts(m Message) bool {
	switch {
	case m.Sequence == h.front.last:
		return !m.Time.Equal(h.front.stored)
	case m.Sequence < h.front.last:
		return m.Time.After(h.front.stored)
	default:
		return false
	}
}

// evict drops the oldest message of the ring, and with it what it holds.
func (h *hub) evict() {
	h.grow(-len(h.ring[0].Body) - messageOverhead)
	h.ring[0] = Message{}
	if h.ring = h.ring[1:]; len(h.ring) == 0 {
		h.ring = nil
	}
}

// grow counts bytes in the ring. It is called with mu held.
func (h *hub) grow(by int) {
	h.bytes += by
	h.broker.rings.Add(int64(by))
}

// empty drops the ring, and for good if no subscription will need one.
func (h *hub) empty(closed bool) {
	h.closed = h.closed || closed
	h.grow(-h.bytes)
	h.ring = nil
}

// wake is called with mu held.
func (h *hub) wake() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// observe notes how far the channel has come, announced or not.
func (h *hub) observe(p position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.last > h.front.last || h.front == (position{}) {
		h.front = p
		h.known.Add(1) // Or more, which shows when a subscriber reads them.
		h.wake()
	}
}

func (h *hub) hasMessages() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.front.last != 0
}

// fail tells all subscribers that there is nothing more to come.
func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
		h.wake()
	}
}

// outlook is what a hub has for a subscriber: a message, or a reason to wait until changed, or
// neither: then it must read the stream.
type outlook struct {
	message Message
	found   bool
	changed <-chan struct{}
	had     int64 // of the hub's known messages, those that the subscriber then has
}

// look returns what comes after *p. It moves *p on where it can prove that nothing was said.
func (h *hub) look(p *position) (outlook, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return outlook{}, h.err
	}
	if h.quiet.last <= p.through && p.through < h.quiet.through && *p != (position{}) {
		p.through, p.at = h.quiet.through, h.quiet.at
	}
	if h.front.last <= p.through {
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		return outlook{changed: h.changed, had: h.known.Load()}, nil
	}
	next := sort.Search(len(h.ring), func(i int) bool { return h.ring[i].Sequence > p.last })
	if next == len(h.ring) || !p.leadsTo(h.ring[next].Previous) {
		return outlook{}, nil
	}
	m := h.ring[next]
	m.Previous = p.last
	return outlook{message: m, found: true, had: h.known.Load() - int64(len(h.ring)-next-1)}, nil
}

// leadsTo says that nothing can be between p and a message that was announced with this
// predecessor. No predecessor proves nothing, as messages may have come and gone, except to a
// subscriber that asked for all that is kept.
func (p position) leadsTo(predecessor uint64) bool {
	if predecessor == 0 {
		return p == position{}
	}
	return predecessor <= p.through
}
