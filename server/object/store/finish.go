package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"example.com/quartet/internal/crc32c"
)

// Finish verifies the upload against what the header and e state, and makes the object visible. When it returns the
// object is durable. Finishing again, with any Writer, returns the same object.
//
// A whole that does not match (ErrSizeMismatch, ErrChecksumMismatch) cannot be mended by sending more: the upload
// is removed, and begins at 0 when it is tried again. Nothing of it was ever visible.
func (w *Writer) Finish(e Expect) (Object, error) {
	if err := w.usable(); err != nil {
		return Object{}, err
	}
	if err := e.check(); err != nil {
		return Object{}, err
	}
	if w.err = w.finish(e); w.err != nil {
		if errors.Is(w.err, ErrChecksumMismatch) {
			w.store.metrics.badObjects.Inc()
		}
		return Object{}, w.err
	}
	return *w.progress.seal.Object, nil
}

func (w *Writer) finish(e Expect) error {
	if err := w.commit(); err != nil {
		return err
	}
	err := w.sealAndPublish(e)
	if !errors.Is(err, errNoKey) && !errors.Is(err, ErrGenerationGone) {
		return err
	}
	// Records and parts are removed only after their upload has ended, so another replica has ended it just now.
	p, loadErr := w.store.loadProgress(w.ctx, w.progress.id)
	if errors.Is(loadErr, ErrUploadNotFound) || (loadErr == nil && p.key() != w.progress.key()) {
		return ErrWriterReplaced // It was even removed, and perhaps begun anew. The sender asks and finds out.
	}
	if loadErr != nil {
		return loadErr
	}
	if !p.complete {
		return w.store.corrupt("a part of upload %s is missing: %w", p.id, err)
	}
	w.progress = p
	return e.matches(p.seal.Object)
}

func (w *Writer) sealAndPublish(e Expect) error {
	if w.progress.complete {
		return e.matches(w.progress.seal.Object)
	}
	parts, err := w.store.loadParts(w.ctx, w.progress)
	if err != nil {
		return err
	}
	if err := w.seal(e, parts); err != nil {
		return err
	}
	return w.store.publish(w.ctx, w.progress, parts)
}

// seal decides the outcome of the upload, unless that is decided already.
func (w *Writer) seal(e Expect, parts []part) error {
	if w.progress.seal != nil {
		return e.matches(w.progress.seal.Object)
	}
	object, err := w.store.verify(w.ctx, w.progress, e, parts)
	switch {
	case err == nil:
		return w.createSeal(e, &seal{Object: object})
	case errors.Is(err, ErrSizeMismatch), errors.Is(err, ErrChecksumMismatch), errors.Is(err, ErrCorrupt):
		return errors.Join(err, w.store.giveUp(w.ctx, w.progress))
	default:
		return err
	}
}

// createSeal creates the record after the last part. It fails if another writer has added a part, and adopts the seal of
// a writer that came to the same end.
func (w *Writer) createSeal(e Expect, want *seal) error {
	p := w.progress
	err := w.createRecord(p.next, &partRecord{Offset: p.size, Time: time.Now().UTC(), Seal: want})
	if err == nil {
		p.seal = want
		return nil
	}
	if !errors.Is(err, errExists) {
		return during("seal an upload", err)
	}
	record, err := w.store.readRecord(w.ctx, p, p.next)
	if err != nil {
		return during("read another writer's record", err)
	}
	if record.Seal == nil || record.Seal.Object == nil {
		return ErrWriterReplaced
	}
	p.seal = record.Seal
	return e.matches(p.seal.Object)
}

// verify returns the object that the parts make, if it is the one expected. It reads them only if a SHA-256 is named.
func (s *Store) verify(ctx context.Context, p *progress, e Expect, parts []part) (*Object, error) {
	h := p.header
	object := &Object{
		Name: h.Name, Generation: h.Generation, ContentType: h.ContentType, CreateTime: h.CreateTime, Size: p.size,
	}
	for _, part := range parts {
		object.CRC32C = crc32c.Combine(object.CRC32C, part.CRC32C, part.Size)
	}
	if err := matchBoth(h.Expect, e, object); err != nil {
		return nil, err
	}
	if len(h.Expect.SHA256) == 0 && len(e.SHA256) == 0 {
		return object, nil
	}
	hash := sha256.New()
	r := s.newReader(ctx, &manifest{Object: *object, Parts: parts}, 0, object.Size)
	defer r.Close()
	if _, err := io.CopyBuffer(hash, r, make([]byte, 256<<10)); err != nil {
		return nil, err
	}
	object.SHA256 = hash.Sum(nil)
	return object, matchBoth(h.Expect, e, object)
}

func matchBoth(a, b Expect, o *Object) error {
	if err := a.matches(o); err != nil {
		return err
	}
	return b.matches(o)
}

// giveUp ends an upload without an object. The seal comes first, so that no writer can finish it meanwhile. If it is
// in the hands of another writer, or even finished, it stays as it is.
func (s *Store) giveUp(ctx context.Context, p *progress) error {
	record := &partRecord{Offset: p.size, Time: time.Now().UTC(), Seal: &seal{}}
	err := s.bucket.create(ctx, recordKey(p.id, p.header.Generation, p.next), encodeJSON(record))
	if errors.Is(err, errExists) {
		return nil
	}
	if err != nil {
		return during("give an upload up", err)
	}
	return s.remove(ctx, p, nil)
}
