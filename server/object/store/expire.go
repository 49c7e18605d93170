package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Expire removes what is kept of uploads that have been idle since before the given time, and returns how many there
// were: unfinished ones with the parts they have, and the memory of finished ones. Afterwards they are ErrUploadNotFound.
// Objects are not touched. It also removes what processes that died have left of uploads.
//
// Any number of replicas may call it, at any time. The time should be days ago: a sender that returns later begins at 0.
// It costs a request for every 1000 keys of uploads, and for each upload that is not forgotten yet two small reads, or
// some more if it is unfinished.
func (s *Store) Expire(ctx context.Context, before time.Time) (removed int, err error) {
	e := &expiry{Store: s, before: before}
	err = s.eachEntry(ctx, uploadsFolder, sweepPage, func(entries []entry) error {
		return parallel(ctx, sweepParallelism, len(entries), func(ctx context.Context, i int) error {
			return e.expire(ctx, entries[i].key)
		})
	})
	return e.removed, errors.Join(e.failure, err)
}

// expiry is one call of Expire under way.
type expiry struct {
	*Store
	before  time.Time
	mu      sync.Mutex
	removed int
	failure error // the first one that did not end it
}

// expire ends the whole only where nothing else would do better: one upload must not stand in the way of others.
func (e *expiry) expire(ctx context.Context, key string) error {
	gone, err := e.expireKey(ctx, key)
	if err != nil && hopeless(ctx, err) {
		return during("expire "+key, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case errors.Is(err, ErrCorrupt):
		e.log.ErrorContext(ctx, "a corrupt upload was not removed", "key", key, "error", err)
	case err != nil && e.failure == nil:
		e.failure = during("expire "+key, err)
	case err == nil && gone:
		e.removed++
	}
	return nil
}

// expireKey looks at one key of the uploads. A header stands for its upload. Nothing leads to any other key whose
// generation is not that of a header. It is removed if its generation and its own time are old: the seal of an
// upload that was given up keeps writers elsewhere from finishing it, for another time to live.
func (e *expiry) expireKey(ctx context.Context, key string) (gone bool, err error) {
	if id, found := strings.CutSuffix(strings.TrimPrefix(key, uploadsFolder), ".header"); found {
		return e.expireUpload(ctx, id)
	}
	upload, ok := parseKey(uploadsFolder, key)
	if !ok || upload.generation >= e.before.UnixNano() {
		return false, nil
	}
	if found, err := e.hasHeader(ctx, upload); err != nil || found {
		return false, err
	}
	var record struct{ Time time.Time }
	err = e.readJSON(ctx, key, &record)
	if errors.Is(err, errNoKey) || (err == nil && !record.Time.Before(e.before)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return false, e.dispose(ctx, []entry{{key: key}})
}

func (e *expiry) expireUpload(ctx context.Context, id string) (gone bool, err error) {
	if p, err := e.idle(ctx, id); p == nil {
		return false, err
	}
	turn, err := e.turns.take(ctx, id) // A writer that has been silent for so long is sent away.
	if err != nil {
		return false, err
	}
	defer turn.end()
	p, err := e.idle(ctx, id)
	switch {
	case p == nil:
		return false, err
	case p.seal == nil:
		return true, e.expireAbandoned(ctx, p)
	case p.seal.Object == nil:
		return true, e.remove(ctx, p, nil)
	}
	return true, e.forget(ctx, p)
}

func (e *expiry) expireAbandoned(ctx context.Context, p *progress) error {
	err := e.giveUp(ctx, p)
	if err == nil {
		e.metrics.expired.Inc()
	}
	return err
}

// forget removes a finished upload. If its object is visible, the parts get a record of its name first, because the
// header that led to them is about to go.
func (e *expiry) forget(ctx context.Context, p *progress) error {
	defer e.names.lock(p.header.Name)()
	visible, err := e.readManifest(ctx, p.header.Name)
	if errors.Is(err, ErrNotFound) || (err == nil && visible.key() != p.key()) {
		return e.remove(ctx, p, nil)
	}
	if err == nil {
		err = e.recordOwner(ctx, visible)
	}
	if err != nil {
		return err
	}
	return e.remove(ctx, p, visible)
}

// idle returns the upload if nothing happened to it for so long, finished or not, and nil otherwise.
func (e *expiry) idle(ctx context.Context, id string) (*progress, error) {
	p, err := e.loadProgress(ctx, id)
	if errors.Is(err, ErrUploadNotFound) {
		err = nil // Unless p is nil it was given up, and not removed completely.
	}
	if err != nil || p == nil || !p.active.Before(e.before) {
		return nil, err
	}
	return p, nil
}

// remove removes an upload, but not the parts of the object that is visible, if that is what became of it. The
// parts go first, while the header still leads to them, so that whoever dies or fails here is followed by someone who
// does it again. The seal of an upload that was given up stays, a few bytes, against a writer on another replica that
// has yet to learn of it, until Expire finds it without a header.
//
// If the header has gone nothing is removed: somebody else does that, or has done it, perhaps while p was read. Then p
// may be wrong. The upload of a visible object looks like an abandoned one once its other keys have gone.
func (s *Store) remove(ctx context.Context, p *progress, visible *manifest) error {
	if found, err := s.hasHeader(ctx, p.key()); err != nil || !found {
		return err
	}
	used := map[string]bool{}
	if visible != nil {
		used = visible.keys()
	}
	used[recordKey(p.id, p.header.Generation, p.next)] = true
	sweep := func(entries []entry) error {
		return s.dispose(ctx, slices.DeleteFunc(entries, func(e entry) bool { return used[e.key] }))
	}
	if err := s.eachEntry(ctx, generationPrefix(partsFolder, p.id, p.header.Generation), sweepPage, sweep); err != nil {
		return err
	}
	if err := s.bucket.delete(ctx, headerKey(p.id)); err != nil {
		return during("remove an upload", err)
	}
	return s.eachEntry(ctx, generationPrefix(uploadsFolder, p.id, p.header.Generation), sweepPage, sweep)
}
