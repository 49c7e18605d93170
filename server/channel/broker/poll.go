package broker

import (
	"context"
	"math/rand/v2"
	"time"
)

// pollInterval is how often a hub asks whether it has missed an announcement, give or take a fifth. Between this process and
// its server none gets lost unnoticed; between servers of a cluster, as when a leader dies, it may.
const pollInterval = 5 * time.Second

// pollHubs makes every hub ask at once whether it has missed something.
func (b *Broker) pollHubs() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hubs {
		select {
		case h.kick <- struct{}{}:
		default:
		}
	}
}

// watch asks now and then whether announcements were missed, until ctx is done.
func (h *hub) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
		case <-time.After(pollInterval*4/5 + rand.N(pollInterval*2/5)):
		}
		if err := h.poll(ctx); err != nil && ctx.Err() == nil {
			h.broker.log.Debug("polling a channel", "channel", h.channel, "error", err)
		}
	}
}

// poll finds out whether something was said that was not announced, or else, from time to time, confirms that nothing was.
func (h *hub) poll(ctx context.Context) error {
	h.mu.Lock()
	front := h.front
	h.mu.Unlock()
	// The state comes first: what is not there afterwards was not there at the time of the state.
	before, err := h.broker.recentState(ctx)
	if err != nil {
		return err
	}
	next, err := h.broker.find(ctx, query{Sequence: front.last + 1, NextIn: h.subject})
	switch {
	case err != nil:
		return err
	case next.Sequence != 0:
		h.observe(next.position())
		return nil
	case before.last < front.last || time.Since(front.at) > h.broker.confirmInterval():
		return h.confirm(ctx, front, before)
	default:
		return nil
	}
}

// confirmInterval is how often the position of a quiet channel is moved on. It could last until half of the retention, but
// messages can be discarded earlier for their size.
func (b *Broker) confirmInterval() time.Duration {
	return min(30*time.Second, b.opts.Retention/8)
}

// confirm moves the front of a quiet channel on, so that attentive subscribers are not told that they may have missed
// something only because their last message has been discarded. Nothing after the front is there; that nothing was there
// is certain only if nothing after it has been discarded.
func (h *hub) confirm(ctx context.Context, front position, before state) error {
	now, err := h.broker.state(ctx)
	if err != nil {
		return err
	}
	if !front.intact(now) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quiet = position{last: front.last, through: max(front.through, before.last), at: before.at, stored: front.stored}
	if h.front == front {
		h.front = h.quiet
	}
	return nil
}
