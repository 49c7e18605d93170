package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func (s *Store) checkHeader(h *Header) error {
	if h.ContentType == "" {
		h.ContentType = defaultContentType
	}
	for _, err := range []error{
		checkUploadID(h.UploadID), checkName(h.Name), checkContentType(h.ContentType), h.check(),
	} {
		if err != nil {
			return err
		}
	}
	if h.Size != nil && *h.Size > s.opts.MaxObjectSize {
		return s.tooLarge()
	}
	return nil
}

func (s *Store) tooLarge() error {
	return fmt.Errorf("%w: at most %d bytes are allowed", ErrTooLarge, s.opts.MaxObjectSize)
}

func (s *Store) newUploadHeader(h Header) *uploadHeader {
	generation := s.newGeneration()
	return &uploadHeader{
		Name:        h.Name,
		ContentType: h.ContentType,
		Expect:      h.Expect,
		Generation:  generation,
		CreateTime:  time.Unix(0, generation).UTC(),
	}
}

// newGeneration returns the time in nanoseconds, or the next number if this one was given out already.
func (s *Store) newGeneration() int64 {
	for {
		last := s.last.Load()
		next := max(time.Now().UnixNano(), last+1)
		if s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// withGrace returns a context that ends some time after ctx does.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// begin returns the upload as it is, or begins it. All who begin the same upload agree on one header.
func (s *Store) begin(ctx context.Context, id string, want *uploadHeader) (*progress, error) {
	p, err := s.loadProgress(ctx, id)
	if errors.Is(err, ErrUploadNotFound) {
		if p != nil { // It was given up, by someone who did not live to remove it.
			if err := s.remove(ctx, p, nil); err != nil {
				return nil, err
			}
		}
		if err := s.checkRoom(want, 0); err != nil {
			return nil, err
		}
		err = s.bucket.create(ctx, headerKey(id), encodeJSON(want))
		if err == nil {
			return &progress{id: id, header: want, active: want.CreateTime}, nil
		}
		if !errors.Is(err, errExists) {
			return nil, during("begin an upload", err)
		}
		p, err = s.loadProgress(ctx, id)
	}
	switch {
	case err != nil:
	case !p.header.equal(want):
		err = ErrUploadMismatch
	case p.seal == nil:
		err = s.checkRoom(p.header, p.size)
	}
	return p, err
}
