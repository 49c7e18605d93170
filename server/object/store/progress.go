package store

import (
	"context"
	"errors"
	"time"
)

// progress is an upload as the bucket has it.
type progress struct {
	id       string
	header   *uploadHeader
	next     int       // the index of the next record, or of the seal
	size     int64     // committed, in bytes
	active   time.Time // when the last record was written
	seal     *seal
	complete bool // the manifest was written, and may have been replaced since
}

// loadProgress returns ErrUploadNotFound if no such upload has begun, and together with the progress if it was given up.
func (s *Store) loadProgress(ctx context.Context, id string) (*progress, error) {
	var header uploadHeader
	err := s.readJSON(ctx, headerKey(id), &header)
	if errors.Is(err, errNoKey) {
		return nil, ErrUploadNotFound
	}
	if err != nil {
		return nil, during("read the upload's header", err)
	}
	p := &progress{id: id, header: &header, active: header.CreateTime}
	if err := s.loadComplete(ctx, p); err != nil || p.complete {
		return p, err
	}
	if err := s.loadLast(ctx, p); err != nil {
		return nil, err
	}
	// If it was finished since the first look, its records may have been on their way out while they were counted.
	if err := s.loadComplete(ctx, p); err != nil || p.complete {
		return p, err
	}
	if p.seal != nil && p.seal.Object == nil {
		return p, ErrUploadNotFound
	}
	return p, nil
}

func (s *Store) loadComplete(ctx context.Context, p *progress) error {
	var record completeRecord
	err := s.readJSON(ctx, completeKey(p.id, p.header.Generation), &record)
	if errors.Is(err, errNoKey) {
		return nil
	}
	if err != nil {
		return during("read the upload's outcome", err)
	}
	p.size, p.active, p.seal, p.complete = record.Object.Size, record.Time, &seal{Object: &record.Object}, true
	return nil
}

// loadLast finds the last record, which alone tells how much is committed.
func (s *Store) loadLast(ctx context.Context, p *progress) error {
	var last *partRecord
	count, err := countUp(func(index int) (bool, error) {
		record, err := s.readRecord(ctx, p, index)
		if errors.Is(err, errNoKey) {
			return false, nil
		}
		if err == nil {
			last = record // Of those that exist, each one asked for is later than the ones before.
		}
		return err == nil, err
	})
	if err != nil || last == nil {
		return during("read a part's record", err)
	}
	p.next, p.size, p.active, p.seal = count, last.end(), last.Time, last.Seal
	if p.seal != nil {
		p.next--
	}
	return nil
}

// countUp returns how many of 0, 1, 2 and so on exist, up to the first that does not. It asks O(log n) times: with
// doubling steps until one is missing, then by bisection.
func countUp(exists func(int) (bool, error)) (int, error) {
	low, high := 0, 0 // All below low exist.
	for {
		found, err := exists(high)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		low, high = high+1, 2*high+1
	}
	for low < high { // The one at high is missing.
		middle := (low + high) / 2
		found, err := exists(middle)
		if err != nil {
			return 0, err
		}
		if found {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

func (s *Store) readRecord(ctx context.Context, p *progress, index int) (*partRecord, error) {
	var record partRecord
	if err := s.readJSON(ctx, recordKey(p.id, p.header.Generation, index), &record); err != nil {
		return nil, err
	}
	return &record, nil
}

// loadParts reads the records of all parts, to finish the upload. errNoKey means that they are being removed, or that
// the whole upload was: a writer that Expire took for dead must not bring it back, because nothing leads to its parts.
func (s *Store) loadParts(ctx context.Context, p *progress) ([]part, error) {
	records := make([]*partRecord, p.next)
	err := parallel(ctx, parallelism, p.next+1, func(ctx context.Context, i int) (err error) {
		if i == p.next {
			return s.confirm(ctx, p)
		}
		records[i], err = s.readRecord(ctx, p, i)
		return err
	})
	if err != nil {
		return nil, during("read the records of parts", err)
	}
	parts, offset := make([]part, p.next), int64(0)
	for i, r := range records {
		if r.Offset != offset || r.Seal != nil {
			return nil, s.corrupt("record %d of upload %s begins at %d, want %d", i, p.id, r.Offset, offset)
		}
		parts[i], offset = r.part, r.end()
	}
	return parts, nil
}

// confirm returns errNoKey unless the upload is still known.
func (s *Store) confirm(ctx context.Context, p *progress) error {
	found, err := s.hasHeader(ctx, p.key())
	if err == nil && !found {
		err = errNoKey
	}
	return err
}

func (p *progress) key() uploadKey { return uploadKey{p.id, p.header.Generation} }

func (p *progress) recordEntries() []entry {
	entries := make([]entry, p.next)
	for i := range entries {
		entries[i].key = recordKey(p.id, p.header.Generation, i)
	}
	return entries
}
