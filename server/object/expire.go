package object

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

const sweepPage = 1000

// Expire removes what is kept of uploads that have been idle since before the given time, and returns how many there
// were: unfinished ones with the parts they have, and the memory of finished ones. Afterwards they are ErrUploadNotFound.
// Objects are not touched. It also removes what processes that died have left of uploads.
//
// Any number of replicas may call it, at any time. The time should be days ago: a sender that returns later begins at 0.
func (s *Store) Expire(ctx context.Context, before time.Time) (removed int, err error) {
	err = s.eachKey(ctx, uploadsFolder, func(keys []string) error {
		for _, key := range keys {
			gone, err := s.expireKey(ctx, key, before)
			if errors.Is(err, ErrCorrupt) {
				s.log.ErrorContext(ctx, "a corrupt upload was not removed", "key", key, "error", err)
			} else if err != nil {
				return during("expire "+key, err)
			}
			if gone {
				removed++
			}
		}
		return nil
	})
	return removed, err
}

// expireKey looks at one key of the uploads. A header stands for its upload. Any other key is removed if its generation
// is old and is not that of a header, because nothing leads to it.
func (s *Store) expireKey(ctx context.Context, key string, before time.Time) (gone bool, err error) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(key, uploadsFolder), ".")
	if rest == "header" {
		return s.expireUpload(ctx, id, before)
	}
	digits, _, _ := strings.Cut(rest, ".")
	generation, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || generation >= before.UnixNano() {
		return false, nil
	}
	var header uploadHeader
	err = s.readJSON(ctx, headerKey(id), &header)
	if errors.Is(err, errNoKey) || (err == nil && header.Generation != generation) {
		s.discard(ctx, key)
		return false, nil
	}
	return false, err
}

func (s *Store) expireUpload(ctx context.Context, id string, before time.Time) (gone bool, err error) {
	if p, err := s.idleSince(ctx, id, before); p == nil {
		return false, err
	}
	turn, err := s.turns.take(ctx, id) // A writer that has been silent for so long is sent away.
	if err != nil {
		return false, err
	}
	defer turn.end()
	p, err := s.idleSince(ctx, id, before)
	switch {
	case p == nil:
		return false, err
	case p.seal == nil:
		return true, s.expireAbandoned(ctx, p)
	case p.seal.Object == nil:
		return true, s.remove(ctx, p, nil)
	}
	defer s.names.lock(p.header.Name)()
	visible, err := s.readManifest(ctx, p.header.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return true, s.remove(ctx, p, visible)
}

func (s *Store) expireAbandoned(ctx context.Context, p *progress) error {
	err := s.giveUp(ctx, p)
	if err == nil {
		s.metrics.expired.Inc()
	}
	return err
}

// idleSince returns the upload if nothing happened to it since then, finished or not, and nil otherwise.
func (s *Store) idleSince(ctx context.Context, id string, before time.Time) (*progress, error) {
	p, err := s.loadProgress(ctx, id)
	if errors.Is(err, ErrUploadNotFound) {
		err = nil // Unless p is nil it was given up, and not removed completely.
	}
	if err != nil || p == nil || !p.active.Before(before) {
		return nil, err
	}
	return p, nil
}

// remove removes an upload, but not the parts of the object that is visible, if that is what became of it. The
// parts go first, while the header still leads to them, so that whoever dies here is followed by someone who does it
// again. The seal of an upload that was given up stays, a few bytes, against a writer on another replica that has yet
// to learn of it, until Expire finds it without a header.
func (s *Store) remove(ctx context.Context, p *progress, visible *manifest) error {
	used := map[string]bool{recordKey(p.id, p.header.Generation, p.next): true}
	if visible != nil {
		for _, part := range visible.Parts {
			used[part.Key] = true
		}
	}
	sweep := func(keys []string) error {
		s.discard(ctx, slices.DeleteFunc(keys, func(key string) bool { return used[key] })...)
		return nil
	}
	if err := s.eachKey(ctx, generationPrefix(partsFolder, p.id, p.header.Generation), sweep); err != nil {
		return err
	}
	if err := s.bucket.delete(ctx, headerKey(p.id)); err != nil {
		return during("remove an upload", err)
	}
	return s.eachKey(ctx, generationPrefix(uploadsFolder, p.id, p.header.Generation), sweep)
}

// eachKey calls f with all keys that have the prefix, a page at a time.
func (s *Store) eachKey(ctx context.Context, prefix string, f func(keys []string) error) error {
	after, more := "", true
	for more {
		var keys []string
		var err error
		keys, more, err = s.bucket.list(ctx, prefix, after, sweepPage)
		if err != nil {
			return during("list "+prefix, err)
		}
		if len(keys) > 0 {
			after = keys[len(keys)-1]
		}
		if err := f(keys); err != nil {
			return err
		}
	}
	return nil
}
