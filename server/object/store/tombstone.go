package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"
)

// tombstone takes the place of the manifest of an object that was deleted from a shared bucket. A manifest that is absent
// has no version, so that a replica that found none could not tell whether an object has come and gone since, and a
// finish that was overtaken would bring back what was deleted. No two deletions write the same one, because an object
// becomes visible once.
type tombstone struct {
	Deleted deletion `json:"deleted"`
}

type deletion struct {
	Generation int64     `json:"generation"` // of the object that was there
	Time       time.Time `json:"time"`
}

// maxTombstoneBytes is less than any manifest has, so that a list tells the two apart.
const maxTombstoneBytes = 128

// mayBeTombstone is asked about entries among the objects. Foreign and damaged ones may look like one.
func (s *Store) mayBeTombstone(e entry) bool {
	_, shared := s.bucket.(versioned)
	return shared && e.size <= maxTombstoneBytes
}

// bury ends what m describes, if its manifest still has the version that was found. Where a shared bucket is too full
// even for a tombstone, the manifest goes without one if its upload is forgotten, so that nobody can be finishing it: to
// delete is how room is made.
func (s *Store) bury(ctx context.Context, m *manifest, version string) error {
	key := manifestKey(m.Name)
	b, shared := s.bucket.(versioned)
	if !shared {
		return s.bucket.delete(ctx, key)
	}
	stone := encodeJSON(&tombstone{deletion{Generation: m.Generation, Time: time.Now().UTC()}})
	err := b.putVersion(ctx, key, stone, version)
	switch {
	case errors.Is(err, ErrStoreFull):
		if known, headerErr := s.hasHeader(ctx, m.key()); known || headerErr != nil {
			return err
		}
		return b.deleteVersion(ctx, key, version)
	case errors.Is(err, errChanged): // Or it was written, and the answer lost, before the request was repeated.
		found, readErr := s.bucket.get(ctx, key)
		if readErr == nil && bytes.Equal(found, stone) {
			return nil
		}
		if readErr != nil && !errors.Is(readErr, errNoKey) {
			return readErr
		}
	}
	return err
}

// sweepTombstones removes those from before the given time.
func (w *sweep) sweepTombstones(ctx context.Context, before time.Time) error {
	b, shared := w.bucket.(versioned)
	if !shared {
		return nil
	}
	return w.eachEntry(ctx, objectsFolder, sweepPage, func(entries []entry) error {
		return parallel(ctx, sweepParallelism, len(entries), func(ctx context.Context, i int) error {
			if !w.mayBeTombstone(entries[i]) {
				return nil
			}
			err := w.removeTombstone(ctx, b, entries[i].key, before)
			return w.endure(ctx, during("remove a tombstone", err))
		})
	})
}

func (w *sweep) removeTombstone(ctx context.Context, b versioned, key string, before time.Time) error {
	name, err := decodeName(strings.TrimPrefix(key, objectsFolder))
	if err != nil {
		return nil // Foreign keys stay. A list warns of them.
	}
	defer w.names.lock(name)()
	data, version, err := b.getVersion(ctx, key)
	if errors.Is(err, errNoKey) {
		return nil
	}
	var stone tombstone
	if err == nil {
		err = w.decodeJSON(key, data, &stone)
	}
	if err != nil || stone.Deleted.Generation == 0 || !stone.Deleted.Time.Before(before) {
		return err
	}
	err = b.deleteVersion(ctx, key, version)
	if errors.Is(err, errChanged) { // There is a new object.
		return nil
	}
	return err
}
