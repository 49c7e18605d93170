package object

import (
	"context"
	"fmt"
	"sync"

	"example.com/quartet/server/object/engine"
)

// turns lets one stream of an upload work at a time in this process, always the newest: an older
// one is told that it is replaced and finishes what it is doing, and the newest waits for that. The
// zero value is ready for use.
//
// It spares the newest stream a race that it might lose against one left behind by a broken
// connection. Across processes the engine decides.
type turns struct {
	mu      sync.Mutex
	uploads map[string]*uploadTurns
}

type uploadTurns struct {
	busy   chan struct{} // holds one value while a turn is taken
	newest *turn
	users  int
}

// turn is one stream's claim on an upload, from take to end.
type turn struct {
	turns    *turns
	id       string
	upload   *uploadTurns
	replaced chan struct{} // closed when a newer claim appears
}

// take waits for the stream that works on the upload to end its turn. It gives up with the error of
// ctx, or with ErrWriterReplaced when an even newer one appears.
func (t *turns) take(ctx context.Context, id string) (*turn, error) {
	claim := t.enter(id)
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

func (t *turns) enter(id string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.uploads == nil {
		t.uploads = make(map[string]*uploadTurns)
	}
	upload := t.uploads[id]
	if upload == nil {
		upload = &uploadTurns{busy: make(chan struct{}, 1)}
		t.uploads[id] = upload
	}
	claim := &turn{turns: t, id: id, upload: upload, replaced: make(chan struct{})}
	if upload.newest != nil {
		close(upload.newest.replaced)
	}
	upload.newest = claim
	upload.users++
	return claim
}

// end gives the turn to the stream that waits for it. It must be called once.
func (c *turn) end() {
	<-c.upload.busy
	c.leave()
}

func (c *turn) leave() {
	c.turns.mu.Lock()
	defer c.turns.mu.Unlock()
	if c.upload.users--; c.upload.users == 0 {
		delete(c.turns.uploads, c.id)
	}
}

// busy tells whether an upload is worked on.
func (t *turns) busy(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.uploads[id] != nil
}
