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
	// mu guards what follows but full. The bridge puts messages in while attempts of the call take
	// them out.
	mu sync.Mutex
	// waiting are the messages that wait, and before them those that are kept, without gaps.
	waiting []encoded
	first   int // the number of the first of them
	taken   int // the number of the next one to be sent for the first time
	unsent  int // bytes of those that wait for it
	bytes   int // of those that are kept though they have been sent
	// keep says that what was sent is kept. It turns false when that becomes too much.
	keep bool
	// closed says that the page has half-closed.
	closed bool
	// changed is closed, and another one made, with each change.
	changed chan struct{}
	// full says that the page is held back.
	full atomic.Bool
}

const (
	// No message is taken while so many, or so many bytes, wait to be sent.
	maxWaiting = 8
	maxUnsent  = 1 << 20
	// keepBytes is how much of a call is kept so that it can be sent again.
	keepBytes = 1 << 20
)

// newOutbox makes an empty one; keep is for a call that is continued after a break.
func newOutbox(keep bool) *outbox { return &outbox{keep: keep, changed: make(chan struct{})} }

// signal tells those that wait. The caller holds the lock.
func (o *outbox) signal() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// put waits until there is room for a message, and adds it. It fails only when ctx is done.
func (o *outbox) put(ctx context.Context, message encoded) error {
	defer o.full.Store(false)
	for {
		o.mu.Lock()
		// The left side is the number of messages that have not been sent.
		if o.first+len(o.waiting)-o.taken < maxWaiting && o.unsent < maxUnsent {
			o.waiting = append(o.waiting, message)
			o.unsent += len(message)
			o.signal()
			o.mu.Unlock()
			return nil
		}
		// It is read under the lock, so that no change after it is missed.
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

// next returns the number that the next message has, and whether none may come because the page
// has half-closed.
func (o *outbox) next() (number int, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first + len(o.waiting), o.closed
}

// get waits for the message of a number, and returns nil if there will be none.
func (o *outbox) get(ctx context.Context, number int) (encoded, error) {
	for {
		o.mu.Lock()
		// number is never below first: what is dropped has been sent, and is not asked for again.
		if at := number - o.first; at < len(o.waiting) {
			// It stays where it is: sent drops it, or keeps it for another attempt.
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

// sent says that the message of a number is handed to the connection, and returns whether for the
// first time.
func (o *outbox) sent(number, size int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	// A repeated message was counted when it was sent first.
	if number < o.taken {
		return false
	}
	o.taken = number + 1
	o.unsent -= size
	if o.bytes += size; o.bytes > keepBytes {
		// The call goes on, but a break ends it from now on.
		o.keep = false
	}
	if !o.keep {
		// A new array lets the memory of those that were sent go.
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
