package store

import (
	"context"
	"errors"
	"time"
)

// publish carries out what the seal says. Everything it writes is the same whoever writes it. The seal stays, a few
// bytes, against another replica that read the records just before they were removed and comes to its own conclusion.
func (s *Store) publish(ctx context.Context, p *progress, parts []part) error {
	m := &manifest{Object: *p.seal.Object, UploadID: p.id, Parts: parts}
	replaced, err := s.replaceManifest(ctx, p, m)
	s.discard(ctx, partEntries(replaced)...)
	if err != nil {
		return err
	}
	if !p.complete { // Otherwise another replica was faster, and has counted it.
		s.metrics.finished.Inc()
	}
	p.complete = true
	s.discard(ctx, p.recordEntries()...)
	return nil
}

// replaceManifest writes the manifest and returns the parts that nothing refers to any more, even with an error.
//
// A process may die between the manifest and the record that it was written, and the sender finishes again. If the
// object was replaced or deleted in between, writing its manifest once more would bring back an object whose parts are
// gone. Therefore whoever replaces or deletes a manifest first records that it had been written. So an upload
// becomes visible once: a finish that is repeated later succeeds, and leaves alone what came after it.
//
// This is exact within a process, and across replicas because a manifest is written only if what was found before the
// record was looked for is still there: another manifest, a tombstone, or nothing since the bucket was made or swept.
func (s *Store) replaceManifest(ctx context.Context, p *progress, m *manifest) (unused []part, err error) {
	defer s.names.lock(m.Name)()
	err = retryChanged(func() (err error) {
		unused, err = s.tryReplaceManifest(ctx, p, m)
		return err
	})
	return unused, err
}

func (s *Store) tryReplaceManifest(ctx context.Context, p *progress, m *manifest) (unused []part, err error) {
	previous, version, err := s.findManifest(ctx, m.Name)
	if err := s.loadComplete(ctx, p); err != nil || p.complete {
		return nil, err
	}
	switch {
	case errors.Is(err, ErrNotFound):
	case errors.Is(err, ErrCorrupt):
		s.log.ErrorContext(ctx, "a manifest is replaced that cannot be read; its parts stay behind", "error", err)
	case err != nil:
		return nil, err
	case previous.Generation == m.Generation:
	default:
		if err := s.recordComplete(ctx, previous); err != nil {
			return nil, err
		}
		unused = previous.Parts
	}
	if err := s.writeManifest(ctx, m, version); err != nil {
		return nil, err
	}
	return unused, s.recordComplete(ctx, m)
}

func (s *Store) recordComplete(ctx context.Context, m *manifest) error {
	record := &completeRecord{Object: m.Object, Time: time.Now().UTC()}
	err := s.bucket.create(ctx, completeKey(m.UploadID, m.Generation), encodeJSON(record))
	if errors.Is(err, errExists) {
		return nil
	}
	err = during("record that an upload is finished", err)
	if errors.Is(err, ErrStoreFull) && !s.mayFinishAgain(ctx, m.key()) {
		return nil
	}
	return err
}

// mayFinishAgain tells whether an upload whose object is visible lacks its record and can be finished once more. Almost
// none can: it has the record, or is forgotten. Therefore a full store, which could take no record, still deletes.
func (s *Store) mayFinishAgain(ctx context.Context, upload uploadKey) bool {
	p, err := s.loadProgress(ctx, upload.id)
	if err != nil {
		return !errors.Is(err, ErrUploadNotFound)
	}
	return p.key() == upload && !p.complete
}
