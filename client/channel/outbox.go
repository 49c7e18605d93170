package channel

import (
	"context"
	"io"
	"slices"
	"sync"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// outbox has the messages that were said and have no receipt yet, oldest first. Each stream of a
// conversation sends them from the beginning. Those that are in the channel already are taken out
// before; what is on its way there at that moment, the server drops by its message_id.
// It is safe for concurrent use.
type outbox struct {
	mu      sync.Mutex
	entries []*outgoing
	// last is the number of the newest entry ever.
	last int
	// closed says that nothing more will be added.
	closed bool
	// changed is closed and replaced whenever there is something new to send.
	changed chan struct{}
}

// outgoing is a message that waits for its receipt.
type outgoing struct {
	// number is its place in the order in which messages were said.
	number  int
	message *quartetv1.SendMessage
	// sent says that it was sent over a stream. It belongs to the goroutine that sends.
	sent bool
	// done is closed when receipt is there.
	done    chan struct{}
	receipt *quartetv1.Receipt
}

func newOutbox() *outbox { return &outbox{changed: make(chan struct{})} }

// add puts a message at the end. Its entry's done is closed once it is confirmed.
func (o *outbox) add(message *quartetv1.SendMessage) *outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	entry := &outgoing{number: o.last, message: message, done: make(chan struct{})}
	o.entries = append(o.entries, entry)
	o.wake()
	return entry
}

// close lets next end once everything is sent.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake()
}

// wake is called with mu held.
func (o *outbox) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// next waits for the first entry behind the given number, and returns io.EOF when there will be
// none.
func (o *outbox) next(ctx context.Context, number int) (*outgoing, error) {
	for {
		o.mu.Lock()
		i := slices.IndexFunc(o.entries, func(e *outgoing) bool { return e.number > number })
		// Taken with mu held, so that no change between here and the waiting is missed.
		changed, closed := o.changed, o.closed
		var entry *outgoing
		if i >= 0 {
			entry = o.entries[i]
		}
		o.mu.Unlock()
		switch {
		case entry != nil:
			return entry, nil
		case closed:
			return nil, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// confirm hands a receipt to the Send that waits for it. A message that is not there any more,
// because its Send gave up, is no error.
func (o *outbox) confirm(receipt *quartetv1.Receipt) {
	if entry := o.remove(receipt.GetMessageId()); entry != nil {
		entry.receipt = receipt
		close(entry.done)
	}
}

// remove takes a message out, and returns nil if it is not there.
func (o *outbox) remove(id string) *outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.entries, func(e *outgoing) bool { return e.message.GetMessageId() == id })
	if i < 0 {
		return nil
	}
	entry := o.entries[i]
	o.entries = slices.Delete(o.entries, i, i+1)
	return entry
}

// owed tells whether the server owes something: a receipt, or the end.
func (o *outbox) owed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed || len(o.entries) > 0
}

// finished tells whether all was said, and confirmed.
func (o *outbox) finished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed && len(o.entries) == 0
}
