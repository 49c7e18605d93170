package object

import (
	"context"
	"fmt"
	"sync"

	"example.com/quartet/server/object/engine"
)

// leases let one stream of an upload work at a time in this process, always the newest: an older
// one is told that it is replaced, ends with WRITER_REPLACED after the message that it is at, and
// the newest waits for that. The zero value is ready for use.
//
// This is for a sender whose connection broke and which continues at once, while the server has not
// noticed the break: without it both streams would write, and the newer one might be the one to
// fail. Between processes the engine decides.
type leases struct {
	mu sync.Mutex
	// uploads are those that streams work on, by upload_id.
	uploads map[string]*leased
}

// leased is an upload that streams work on, or wait for.
type leased struct {
	// busy holds one value while a stream has the lease.
	busy chan struct{}
	// name is what a stream has begun the upload with, "" before. It is guarded by leases.mu.
	name string
	// newest is the claim that replaces the others.
	newest *lease
	// users is how many claims there are, which is when the upload may be forgotten. It is guarded by
	// leases.mu, as newest is.
	users int
}

// lease is one stream's claim on an upload, from acquire to release.
type lease struct {
	leases *leases
	id     string
	upload *leased
	// replaced is closed when a newer claim appears.
	replaced chan struct{}
}

// acquire waits until the stream that has the lease releases it. It gives up with the error of ctx,
// or with ErrWriterReplaced when an even newer stream appears. If a stream has begun the upload,
// permit is asked about the name first, and its error leaves that stream alone: a caller that knows
// the id of another one's upload must not end its streams.
func (l *leases) acquire(
	ctx context.Context, id string, permit func(name string) error,
) (*lease, error) {
	claim, err := l.enter(id, permit)
	if err != nil {
		return nil, err
	}
	select {
	case claim.upload.busy <- struct{}{}:
	case <-claim.replaced:
		claim.leave()
		return nil, engine.ErrWriterReplaced
	case <-ctx.Done():
		claim.leave()
		return nil, fmt.Errorf("wait for the stream before: %w", context.Cause(ctx))
	}
	return claim, nil
}

// enter makes a claim on an upload, and tells the newest one before that it is replaced. Older ones
// were told already.
func (l *leases) enter(id string, permit func(name string) error) (*lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upload := l.uploads[id]; upload != nil && upload.name != "" {
		if err := permit(upload.name); err != nil {
			return nil, err
		}
	}
	return l.claim(id), nil
}

// claim makes a claim, with mu held.
func (l *leases) claim(id string) *lease {
	if l.uploads == nil {
		l.uploads = make(map[string]*leased)
	}
	upload := l.uploads[id]
	if upload == nil {
		upload = &leased{busy: make(chan struct{}, 1)}
		l.uploads[id] = upload
	}
	claim := &lease{leases: l, id: id, upload: upload, replaced: make(chan struct{})}
	if upload.newest != nil {
		close(upload.newest.replaced)
	}
	upload.newest = claim
	upload.users++
	return claim
}

// try takes an upload if no stream works on it, or waits for it, so that housekeeping disturbs
// none. A stream that comes meanwhile waits for release.
func (l *leases) try(id string) (release func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uploads[id] != nil {
		return nil, false
	}
	claim := l.claim(id)
	claim.upload.busy <- struct{}{} // There is room, as no other claim has it.
	return claim.release, true
}

// began tells the leases that the engine has taken the upload under this name.
func (c *lease) began(name string) {
	c.leases.mu.Lock()
	defer c.leases.mu.Unlock()
	c.upload.name = name
}

// release gives the lease to the stream that waits for it. It must be called once.
func (c *lease) release() {
	<-c.upload.busy
	c.leave()
}

// leave takes the claim back, without giving the lease to another stream.
func (c *lease) leave() {
	c.leases.mu.Lock()
	defer c.leases.mu.Unlock()
	if c.upload.users--; c.upload.users == 0 {
		delete(c.leases.uploads, c.id)
	}
}

// busy tells whether a stream works on an upload, or waits for it.
func (l *leases) busy(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uploads[id] != nil
}

// lease acquires the lease of an upload for a call that may use it under the name that permit
// accepts. A fresh stream begins an upload before the engine has compared its name with that of the
// record, if there is one. So when the stream that is there has begun it under another name, the
// record decides which of the two is right.
func (s *service) lease(
	ctx context.Context, id string, permit func(name string) error,
) (*lease, error) {
	var denied error
	lease, err := s.leases.acquire(ctx, id, func(name string) error {
		denied = permit(name)
		return denied
	})
	if denied == nil {
		return lease, err
	}
	state, err := s.engine.Upload(ctx, id)
	if err != nil || permit(state.Name) != nil {
		return nil, denied
	}
	return s.leases.acquire(ctx, id, func(string) error { return nil })
}
