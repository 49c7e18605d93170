package echo

import (
	"context"
	"fmt"
	"sync"

	"example.com/quartet/internal/rpc"
)

// pending are the texts of a chat that have no reply yet, over all its streams. The server is
// waited for while there are any, or once there will be no more, but not while the caller works on
// a reply.
type pending struct {
	texts <-chan string

	mu     sync.Mutex
	said   []string // without a reply
	first  uint64   // the sequence of the first of them
	next   uint64   // the sequence to send next on this stream
	closed bool     // texts has no more
	busy   bool     // the caller works on a reply
}

// begin begins a stream with the first text that has no reply.
func (p *pending) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.busy = p.first, false
}

// take returns the text to send next and its sequence, and waits until there is one. It returns
// false if there will be none, or if ctx is done.
func (p *pending) take(ctx context.Context, a *rpc.Attempt) (sequence uint64, text string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.first+uint64(len(p.said)) && !p.wait(ctx, a) {
		return 0, "", false
	}
	p.next++
	return p.next - 1, p.said[p.next-1-p.first], true
}

// wait waits for another text, without the lock. The clock begins with the first text that has no
// reply; further ones must not hold it up.
func (p *pending) wait(ctx context.Context, a *rpc.Attempt) bool {
	if len(p.said) == 0 {
		p.clock(a)
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case text, ok := <-p.texts:
		p.add(text, ok, a)
		return ok
	case <-ctx.Done():
		return false
	}
}

func (p *pending) add(text string, ok bool, a *rpc.Attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := len(p.said) == 0
	if p.closed = !ok; ok {
		p.said = append(p.said, text)
	}
	if idle {
		p.clock(a)
	}
}

// answered drops the first text if the reply is to it.
func (p *pending) answered(sequence uint64, a *rpc.Attempt) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sequence != p.first || p.first == p.next {
		return fmt.Errorf("%w: reply %d after %d messages, %d of them with a reply", rpc.ErrProtocol, sequence, p.next, p.first)
	}
	p.said, p.first, p.busy = p.said[1:], p.first+1, true
	p.clock(a)
	a.Progress()
	return nil
}

// done says that the caller has worked on the reply.
func (p *pending) done(a *rpc.Attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.clock(a)
}

// clock has the server waited for from now on, or not.
func (p *pending) clock(a *rpc.Attempt) {
	if p.busy || len(p.said) == 0 && !p.closed {
		a.Ready()
	} else {
		a.Wait()
	}
}

// end tells a chat that is over from a stream that was ended by something in between.
func (p *pending) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && len(p.said) == 0 {
		return nil
	}
	return rpc.ErrEnded
}
