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
	// ringMessages and ringBytes bound the latest messages of one channel, which its hub keeps in
	// memory for all its subscribers together.
	ringMessages = 256
	ringBytes    = 1 << 20
	// messageOverhead is about what a message takes besides its body.
	messageOverhead = 512

	// pendingAnnouncements is how many announcements, of all channels, may wait for announce, each
	// Broker having its part. nats.go drops those that come when there are so many, and reports it;
	// their channels are polled then, as for any announcement that is lost.
	pendingAnnouncements = 256
)

// hub is what all subscribers of one channel in this process share: its latest messages in a ring,
// and the knowledge how far the channel has come. Subscribers take messages from the ring while
// they can and read the stream otherwise; the hub waits for none of them, so that a slow one delays
// no other.
type hub struct {
	broker  *Broker
	channel string
	// subject is the channel's in the stream, and live receives what is announced there.
	subject string
	live    *nats.Subscription
	// refs counts the subscriptions. It is guarded by broker.mu.
	refs int
	// known is how many messages were announced or found since the hub began. It is changed with mu
	// held; a subscription compares it with those it has, for the metric of the lag.
	known atomic.Int64

	mu sync.Mutex
	// ring has the latest messages in order, possibly with some missing between them: the Previous of
	// each is as announced, and shows it.
	ring []Message
	// bytes is how much the messages in the ring take.
	bytes int
	// front is the position of a subscriber that has all that is known to be in the channel, in the
	// ring or not.
	front position
	// quiet is the latest position that a poll has moved on because nothing was said after it. It is
	// kept for subscribers that have not looked since: front may be further by then.
	quiet position
	// polled is what front.last was at the last poll: if it has moved since, announcements arrive.
	polled uint64
	// closed says that the last subscriber has left, and nothing is put into the ring any more.
	closed bool
	// err is why no more messages will come.
	err error
	// changed is closed at the next change, for all subscribers that wait; nil if none does.
	changed chan struct{}
}

// acquire returns the hub of a channel, and starts it if there is none. The caller must release it.
func (b *Broker) acquire(channel string) (*hub, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed() {
		return nil, ErrClosed
	}
	h := b.hubs[channel]
	if h == nil {
		// Other Brokers count at the same moment.
		if b.channels.Add(1) > int64(b.opts.MaxChannels) {
			b.channels.Add(-1)
			return nil, ErrTooManyChannels
		}
		var err error
		if h, err = b.startHub(channel); err != nil {
			b.channels.Add(-1)
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
	// An announcement that is on its way to the hub must not fill the ring again, as its bytes would
	// count for ever.
	h.empty(true)
	h.mu.Unlock()
	// After forgetHubs it may be the next hub of the channel.
	if b.hubs[h.channel] == h {
		b.forget(h)
	}
}

// forget makes the next subscriber of a channel start another hub. It is called with broker.mu
// held.
func (b *Broker) forget(h *hub) {
	delete(b.hubs, h.channel)
	b.channels.Add(-1)
}

// startHub subscribes to what is announced of a channel. It does not wait for the broker: what is
// asked on the same connection afterwards is answered after the subscription took effect, so no
// message falls between the answer and the first announcement. It is called with broker.mu held.
func (b *Broker) startHub(channel string) (*hub, error) {
	name := escape(channel)
	h := &hub{broker: b, channel: channel, subject: b.names.subject + name}
	var err error
	if h.live, err = b.nc.ChanSubscribe(b.names.live+name, b.announcements); err != nil {
		return nil, err
	}
	return h, nil
}

// announce hands announcements to the hubs, in their order, until the Broker is closed. One
// goroutine for all hubs makes silent channels cheap.
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

// hubOf returns the hub of a channel by its escaped name; nil if its last subscriber has just left.
func (b *Broker) hubOf(name string) *hub {
	channel, err := url.PathUnescape(name)
	if err != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hubs[channel]
}

// announced takes a message that the stream has announced. Announcements of a channel come in their
// order, but some may be missing.
func (h *hub) announced(msg *nats.Msg) {
	m, err := h.broker.names.decode(msg)
	if err != nil {
		h.broker.log.Warn("unreadable announcement", "error", err)
		return
	}
	if front, contradicted := h.take(m); contradicted {
		h.broker.contradict(h, front)
	}
}

// take puts a message into the ring and wakes the subscribers. If the message contradicts what is
// known of the channel, it does nothing but say so, with the front that is contradicted. It drops
// what is in the ring already, which a new leader may announce a second time.
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
	h.broker.lineage.noteSeen(m.Sequence, m.Time)
	h.ring = append(h.ring, m)
	h.grow(len(m.Body) + messageOverhead)
	// Beyond the limit of all rings a hub makes room in its own ring only; poll empties those of
	// channels that have gone silent.
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

// contradicts says that a message cannot be in the history that the channel has had: it has the
// sequence of the last message and another time, or an earlier sequence and a later time, or it
// follows one before the last message. An old message that is announced late or twice is no
// contradiction, nor is one that follows none, as those before it may have been discarded. It is
// called with mu held.
func (h *hub) contradicts(m Message) bool {
	switch {
	case m.Sequence == h.front.last:
		return !m.Time.Equal(h.front.stored)
	case m.Sequence < h.front.last:
		return m.Time.After(h.front.stored)
	default:
		return m.Previous != 0 && m.Previous < h.front.last && !h.front.stored.IsZero()
	}
}

// evict drops the oldest message of the ring. It is called with mu held.
func (h *hub) evict() {
	h.grow(-len(h.ring[0].Body) - messageOverhead)
	// The array behind the slice would hold its body otherwise.
	h.ring[0] = Message{}
	if h.ring = h.ring[1:]; len(h.ring) == 0 {
		h.ring = nil
	}
}

// grow counts bytes that come into the ring, or leave it if by is negative. It is called with mu
// held.
func (h *hub) grow(by int) {
	h.bytes += by
	h.broker.rings.Add(int64(by))
}

// empty drops all messages of the ring. If closed is true the hub has no subscriber left, and takes
// no messages from then on. It is called with mu held.
func (h *hub) empty(closed bool) {
	h.closed = h.closed || closed
	h.grow(-h.bytes)
	h.ring = nil
}

// wake wakes the subscribers that wait for a change. It is called with mu held.
func (h *hub) wake() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// observe notes how far the channel has come, as a request has shown: messages may have been said
// that were not announced. Subscribers that are behind then read the stream.
func (h *hub) observe(p position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.last > h.front.last || h.front == (position{}) {
		h.front = p
		h.known.Add(1) // Or more, which shows when a subscriber reads them.
		h.wake()
	}
}

// hasMessages says whether the channel is known to have had a message.
func (h *hub) hasMessages() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.front.last != 0
}

// fail ends all subscriptions of the hub with err; if there was an error before, that one stays.
func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
		h.wake()
	}
}

// outlook is what a hub has for a subscriber: a message if found is true, or a reason to wait until
// changed is closed, or neither: then the subscriber must read the stream.
type outlook struct {
	message Message
	found   bool
	changed <-chan struct{}
	// had is how many of the hub's known messages the subscriber has then.
	had int64
}

// look returns what comes after *p. It moves p.through on where a poll has proved that nothing was
// said in between.
func (h *hub) look(p *position) (outlook, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return outlook{}, h.err
	}
	// The poll has proved it for a subscriber that has the message quiet.last. Without it, through
	// would stay with a message that may be discarded, and the subscriber could not be told from one
	// that missed something.
	if h.quiet.last <= p.through && p.through < h.quiet.through && *p != (position{}) {
		p.through, p.at = h.quiet.through, h.quiet.at
	}
	if h.front.last <= p.through {
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		return outlook{changed: h.changed, had: h.known.Load()}, nil
	}
	// The next message of the ring is the subscriber's next one only if no other is between them.
	next := sort.Search(len(h.ring), func(i int) bool { return h.ring[i].Sequence > p.last })
	if next == len(h.ring) || !p.leadsTo(h.ring[next].Previous) {
		return outlook{}, nil
	}
	m := h.ring[next]
	// As the contract promises, this is what the participant got before, also if that is a position
	// and not a message, or if it has been discarded since.
	m.Previous = p.last
	return outlook{message: m, found: true, had: h.known.Load() - int64(len(h.ring)-next-1)}, nil
}

// leadsTo says that no message can be between p and one that was announced with this predecessor.
// An announcement without a predecessor proves nothing, as messages may have come and been
// discarded since p; to a subscriber that asked for all that is kept they do not matter.
func (p position) leadsTo(predecessor uint64) bool {
	if predecessor == 0 {
		return p == position{}
	}
	return predecessor <= p.through
}
