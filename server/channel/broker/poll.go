package broker

import (
	"context"
	"fmt"
	"time"
)

const (
	// pollInterval is how often it is found out whether announcements were missed. Between this
	// process and its server none gets lost unnoticed; between servers of a cluster, as when a leader
	// dies, it may. A channel with an announcement since the last poll is left to the next one, so a
	// gap is found within two of them, if the next announcement does not show it.
	pollInterval = 2200 * time.Millisecond
	// pollChannels is how many channels one request asks for; JetStream answers up to 1024.
	pollChannels = 500
	// pollTimeout bounds one poll of all channels, and one round of the releaser.
	pollTimeout = 30 * time.Second
)

// pollHubs has watch poll now, and ask for channels with announcements, too. It does not wait.
func (b *Broker) pollHubs() {
	select {
	case b.urgent <- struct{}{}:
	default:
	}
}

// watch polls every pollInterval, and when asked to, until the Broker is closed. An error is not
// logged above debug: Check reports a broker that does not answer.
func (b *Broker) watch() {
	for {
		urgent := false
		select {
		case <-b.closed:
			return
		case <-b.urgent:
			urgent = true
		case <-time.After(pollInterval):
		}
		ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
		if err := b.poll(ctx, urgent); err != nil && !b.isClosed() {
			b.log.Debug("polling the stream", "error", err)
		}
		cancel()
		if b.embedded != nil {
			b.remember()
		}
	}
}

// polled is a channel for which a poll asks, and its front before the poll.
type polled struct {
	hub   *hub
	front position
}

// poll finds out which channels have had something said in them that was not announced, and
// confirms of the others that nothing was. It costs one request if nothing was said in the whole
// stream, and a few for all channels together otherwise. It stops at the first error, and the next
// poll begins anew.
func (b *Broker) poll(ctx context.Context, urgent bool) error {
	if b.channelsOpen() == 0 {
		return nil
	}
	if err := b.checkHistory(ctx); err != nil {
		return err
	}
	// The state comes first: what is not there afterwards was not there at the time of the state.
	before, err := b.state(ctx)
	if err != nil {
		return err
	}
	ask := b.toAsk(before, urgent)
	if len(ask) == 0 {
		return nil
	}
	if err := b.checkSeen(ctx, before); err != nil {
		return err
	}
	// The last message of the stream tells pollSome whether the replica that answers is up to date.
	newest, err := b.find(ctx, query{Sequence: before.last})
	if err != nil {
		return err
	}
	var quiet []polled
	for len(ask) > 0 {
		n := min(len(ask), pollChannels)
		confirmed, err := b.pollSome(ctx, ask[:n], newest)
		if err != nil {
			return err
		}
		quiet, ask = append(quiet, confirmed...), ask[n:]
	}
	// What was discarded while the channels were asked for may have been said in one of them.
	after, err := b.state(ctx)
	if err != nil {
		return err
	}
	for _, p := range quiet {
		p.hub.confirm(p.front, before, after)
	}
	return nil
}

// checkSeen checks the history if the last message seen is another one. Behind a connection to
// another server of a cluster the store may go back to what it had, and go on, without a word.
func (b *Broker) checkSeen(ctx context.Context, now state) error {
	_, lastSeen := b.lineage.known()
	if lastSeen.Sequence < max(now.first, 1) || lastSeen.Sequence >= now.last {
		return nil
	}
	have, err := b.find(ctx, query{Sequence: lastSeen.Sequence})
	if err != nil || have.Sequence == 0 || have.Time.Equal(lastSeen.Time) {
		return err
	}
	b.doubt()
	return b.checkHistory(ctx)
}

// toAsk returns the channels of which it is not known whether something was said in them up to the
// end of the stream.
func (b *Broker) toAsk(now state, urgent bool) (ask []polled) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hubs {
		h.mu.Lock()
		switch {
		case h.front.through >= now.last:
			if h.front.through == now.last {
				h.advance(h.front, now) // Nothing at all was said since.
			}
		// Otherwise there were announcements since the last poll: the next one would show a gap.
		case urgent || h.front.last == h.polled:
			ask = append(ask, polled{h, h.front})
		}
		if h.front.last == h.polled {
			// Participants that are behind read the stream, and those that are not need none of it.
			h.empty(false)
		}
		h.polled = h.front.last
		h.mu.Unlock()
	}
	return ask
}

// pollSome asks any replica for the last message of each channel in ask, if it is after the
// channel's front. Hubs whose channel has one are told, the others are returned: in their channels
// nothing new was said. With them pollSome asks for the last message of the channel that has the
// newest message of all: a replica that does not have that is behind, and proves nothing.
func (b *Broker) pollSome(
	ctx context.Context, ask []polled, newest found,
) (quiet []polled, err error) {
	subjects := make([]string, 0, len(ask)+1)
	from := newest.Sequence
	hubs := make(map[string]polled, len(ask))
	for _, p := range ask {
		subjects = append(subjects, p.hub.subject)
		hubs[p.hub.subject] = p
		from = min(from, p.front.through+1)
	}
	if newest.Subject == "" {
		return nil, nil // It has been discarded, and nothing may be left to prove.
	}
	if _, found := hubs[newest.Subject]; !found {
		subjects = append(subjects, newest.Subject)
	}
	upToDate := false
	// An answer has at most batchBytes; the rest is asked for from the next sequence on.
	for left := int64(1); left > 0; {
		left, err = b.request(ctx, query{Sequence: from, LastOf: subjects, Bytes: batchBytes},
			func(subject string, m Message) {
				from = m.Sequence + 1
				upToDate = upToDate || subject == newest.Subject && m.Sequence >= newest.Sequence
				if p, found := hubs[subject]; found && m.Sequence > p.front.last {
					p.hub.observe(after(m))
					delete(hubs, subject)
				}
			})
		if err != nil {
			return nil, b.explain(ctx, err)
		}
	}
	if !upToDate {
		return nil, fmt.Errorf("%w: the replica is behind message %d", ErrUnavailable, newest.Sequence)
	}
	for _, p := range hubs {
		quiet = append(quiet, p)
	}
	return quiet, nil
}

// confirm moves the front of a quiet channel on to the end that the stream had before the poll.
// Subscribers that have read everything are then not told that they may have missed something only
// because their last message has been discarded. The poll has found nothing behind the front; that
// nothing ever was there is certain only if nothing behind it has been discarded, which the state
// after the poll says.
func (h *hub) confirm(front position, before, after state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if front.intact(after) {
		h.advance(front, before)
	}
}

// advance notes that nothing was said after the position front up to the end of the stream. The
// hub's own front moves on with it unless it has changed meanwhile. It is called with mu held.
func (h *hub) advance(front position, end state) {
	h.quiet = position{last: front.last, through: max(front.through, end.last), at: end.at,
		stored: front.stored}
	if h.front == front {
		h.front = h.quiet
	}
}
