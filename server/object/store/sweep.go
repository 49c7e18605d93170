package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	sweepPage = 1000
	// sweepParallelism is less than that of calls, which housekeeping must not get in the way of. It bounds the
	// manifests in memory.
	sweepParallelism = 4
	// maxSuspects bounds what a sweep remembers. Those beyond it are left to the next one.
	maxSuspects = 10_000
)

// Sweep removes the parts that nothing leads to any more, of uploads that began before the given time, and returns how
// many. They are left when a removal failed, as when the bucket was away while an object was replaced, and when a process
// died at the wrong moment. Any number of replicas may call it, at any time. It also removes tombstones from before the time.
//
// The parts of an upload live as long as one of these leads to them:
//   - the upload's header, which Expire removes;
//   - the manifest of the object, found through the record of its name that Expire leaves among the parts before it
//     removes the header of an upload whose object is visible.
//
// Both are looked for in this order, manifest first. If there is neither the upload is only suspect: it may be that
// Expire did its work between the two looks, or that a record was lost. So a sweep that has suspects reads all manifests
// at its end, gives their record to those that turn out to be visible, and removes the parts of the others. If one of
// the manifests cannot be read, it removes none of these.
//
// What may happen meanwhile does no harm:
//   - An object that is published has its header, which goes at the earliest when the upload was idle for the whole
//     time to live. It is the only way for parts to become those of an object, and it is looked for once more before
//     an upload is sealed.
//   - The manifest of an upload never changes: it becomes visible once, and never again when it was replaced or deleted.
//     So a part that is not in it, or whose manifest has gone, stays unreferenced, and one that it has is not touched.
//   - An upload id that is used again comes with another generation, and no key is shared with the one before.
//   - Keys that vanish from the list have been removed by somebody else.
//
// Time decides only when an upload is looked at, except for one assumption: nobody takes longer than the time to live
// from one step of finishing an upload to the next. It has to exceed that, and the difference between the clocks of
// replicas.
//
// It costs a request for every 1000 parts, and for each object whose upload began before the time two reads, of a small
// record and of the manifest, or of two small records while the upload's header is there. At most sweepParallelism
// manifests and the keys of one page are in memory. On a shared bucket there is also a request for every 1000 objects, and
// a small read for each tombstone.
func (s *Store) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	w := &sweep{Store: s, suspects: map[uploadKey]bool{}}
	err = s.eachEntry(ctx, partsFolder, sweepPage, func(entries []entry) error {
		groups := groupParts(entries, before)
		return parallel(ctx, sweepParallelism, len(groups), func(ctx context.Context, i int) error {
			return w.endure(ctx, w.look(ctx, groups[i]))
		})
	})
	if err == nil && len(w.suspects) > 0 {
		err = w.judge(ctx)
	}
	if err == nil {
		err = w.sweepTombstones(ctx, before)
	}
	return w.removed, errors.Join(w.failure, err)
}

// partGroup is what a page has of the parts of one upload.
type partGroup struct {
	uploadKey
	entries []entry
}

// groupParts leaves out uploads that began since, and what is no part.
func groupParts(entries []entry, before time.Time) (groups []partGroup) {
	for _, e := range entries {
		upload, ok := parseKey(partsFolder, e.key)
		if !ok || upload.generation >= before.UnixNano() {
			continue
		}
		if last := len(groups) - 1; last < 0 || groups[last].uploadKey != upload {
			groups = append(groups, partGroup{uploadKey: upload})
		}
		last := &groups[len(groups)-1]
		last.entries = append(last.entries, e)
	}
	return groups
}

// sweep is one sweep under way.
type sweep struct {
	*Store
	mu       sync.Mutex
	removed  int
	suspects map[uploadKey]bool
	failure  error // the first one that did not end it
}

// endure notes a failure, and returns it only if the sweep should end: one upload must not stand in the way of others.
func (w *sweep) endure(ctx context.Context, err error) error {
	if err == nil || hopeless(ctx, err) {
		return err
	}
	w.log.WarnContext(ctx, "parts were left to the next sweep", "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
	}
	return nil
}

// look decides about a group by what leads to it.
func (w *sweep) look(ctx context.Context, g partGroup) error {
	name, err := w.readOwner(ctx, g.uploadKey)
	if errors.Is(err, errNoKey) {
		return w.lookForHeader(ctx, g)
	}
	if err != nil {
		return during("read the owner of parts", err)
	}
	m, err := w.readManifest(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return w.remove(ctx, g, m)
}

func (w *sweep) lookForHeader(ctx context.Context, g partGroup) error {
	found, err := w.hasHeader(ctx, g.uploadKey)
	if err != nil || found {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.suspects) < maxSuspects {
		w.suspects[g.uploadKey] = true
	}
	return nil
}

// remove removes what m, if it is the group's manifest at all, does not use. The owner goes last, and only if everything
// before it has gone, so that it leads there as long as there is something.
func (w *sweep) remove(ctx context.Context, g partGroup, m *manifest) error {
	used := map[string]bool{}
	if m != nil && m.key() == g.uploadKey {
		used = m.keys()
	}
	var unused, owner []entry
	for _, e := range g.entries {
		switch {
		case used[e.key]:
		case isOwnerKey(e.key):
			owner = append(owner, e)
		default:
			unused = append(unused, e)
		}
	}
	if err := w.dispose(ctx, unused); err != nil {
		return err
	}
	w.metrics.unreferenced.Add(float64(len(unused)))
	w.mu.Lock()
	w.removed += len(unused)
	w.mu.Unlock()
	return w.dispose(ctx, owner)
}

// judge acquits the suspects that have a manifest, and removes the parts of the others.
func (w *sweep) judge(ctx context.Context) error {
	err := w.eachEntry(ctx, objectsFolder, sweepPage, func(entries []entry) error {
		names, _ := w.decodeNames(ctx, "", keysOf(entries))
		return parallel(ctx, sweepParallelism, len(names), func(ctx context.Context, i int) error {
			return w.acquit(ctx, names[i])
		})
	})
	if err != nil {
		return err
	}
	for upload := range w.suspects {
		prefix := generationPrefix(partsFolder, upload.id, upload.generation)
		err := w.eachEntry(ctx, prefix, sweepPage, func(entries []entry) error {
			return w.remove(ctx, partGroup{upload, entries}, nil)
		})
		if err := w.endure(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

func (w *sweep) acquit(ctx context.Context, name string) error {
	m, err := w.readManifest(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	suspect := w.suspects[m.key()]
	delete(w.suspects, m.key())
	w.mu.Unlock()
	if !suspect {
		return nil
	}
	return w.recordOwner(ctx, m)
}

// hasHeader tells whether the upload is still known, as the one that it was.
func (s *Store) hasHeader(ctx context.Context, upload uploadKey) (bool, error) {
	var header uploadHeader
	err := s.readJSON(ctx, headerKey(upload.id), &header)
	if errors.Is(err, errNoKey) {
		return false, nil
	}
	return err == nil && header.Generation == upload.generation, during("read the upload's header", err)
}

// eachEntry calls f with all that has the prefix, a page at a time.
func (s *Store) eachEntry(ctx context.Context, prefix string, page int, f func(entries []entry) error) error {
	after, more := "", true
	for more {
		var entries []entry
		err := context.Cause(ctx)
		if err != nil {
			return err
		}
		entries, more, err = s.bucket.list(ctx, prefix, after, page)
		if err != nil {
			return during("list "+prefix, err)
		}
		if len(entries) > 0 {
			after = entries[len(entries)-1].key
		}
		if err := f(entries); err != nil {
			return err
		}
	}
	return nil
}
