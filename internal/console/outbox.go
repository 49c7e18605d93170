package console

import (
	"context"
	"sync"
	"sync/atomic"
)

// outbox is what a page wants to have sent, in its order. It holds few messages that have not been
// sent, so that a server that does not read holds back the page; and, for a call that is to be
// continued after a break, those that have been.
type outbox struct {
	mu      sync.Mutex
	waiting []encoded
	first   int // the number of the first of them
	taken   int // the number of the next one to be sent for the first time
	unsent  int // bytes of those that wait for it
	bytes   int // of those that are kept though they have been sent
	keep    bool
	closed  bool
	changed chan struct{}
	// full says that the page is held back.
	full atomic.Bool
}

const (
	// No message is taken while so many, or so many bytes, wait to be sent.
	mostWaiting = 8
	mostUnsent  = 1 << 20
	// keepBytes is how much of a call is kept so that it can be sent again.
	keepBytes = 1 << 20
)

func newOutbox(keep bool) *outbox { return &outbox{keep: keep, changed: make(chan struct{})} }

// signal tells those that wait. The caller holds the lock.
func (o *outbox) signal() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// put waits for room.
func (o *outbox) put(ctx context.Context, message encoded) error {
	defer o.full.Store(false)
	for {
		o.mu.Lock()
		if o.first+len(o.waiting)-o.taken < mostWaiting && o.unsent < mostUnsent {
			o.waiting = append(o.waiting, message)
			o.unsent += len(message)
			o.signal()
			o.mu.Unlock()
			return nil
		}
		changed := o.changed
		o.full.Store(true)
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// halfClose says that no more messages will come.
func (o *outbox) halfClose() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.signal()
}

func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// get waits for the message of a number, and returns nil if there will be none.
func (o *outbox) get(ctx context.Context, number int) (encoded, error) {
	for {
		o.mu.Lock()
		if at := number - o.first; at < len(o.waiting) {
			message := o.waiting[at]
			o.mu.Unlock()
			return message, nil
		}
		closed, changed := o.closed, o.changed
		o.mu.Unlock()
		if closed {
			return nil, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sent says that the message of a number was handed to the connection, and returns whether for the
// first time.
func (o *outbox) sent(number, size int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if number < o.taken {
		return false
	}
	o.taken = number + 1
	o.unsent -= size
	if o.bytes += size; o.bytes > keepBytes {
		o.keep = false
	}
	if !o.keep {
		o.waiting = append([]encoded(nil), o.waiting[o.taken-o.first:]...)
		o.first = o.taken
	}
	o.signal()
	return true
}

// canRepeat tells whether everything that was sent is still there.
func (o *outbox) canRepeat() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keep
}
