package store

import (
	"errors"
	"time"
)

// maxBehind is how many parts may be committed while the next one is received. One would leave an S3 service idle
// between a part and the next.
const maxBehind = 2

// behind is a part that is being committed while the writer goes on.
type behind struct {
	index  int
	record *partRecord
	done   chan struct{} // closed when err is known
	err    error
}

func (b *behind) wait() error {
	<-b.done
	return b.err
}

// following returns the index and the offset of the part after those that are committed or about to be.
func (w *Writer) following() (index int, offset int64) {
	if n := len(w.behind); n > 0 {
		return w.behind[n-1].index + 1, w.behind[n-1].record.end()
	}
	return w.progress.next, w.progress.size
}

// commit makes all that arrived durable, and returns when it is.
func (w *Writer) commit() error {
	if w.begun != nil {
		w.commitBehind()
	}
	return w.settle(0)
}

// commitBehind begins to commit the begun part. Parts are stored at the same time, but each record waits for the one
// before, so that what is committed never has a gap.
func (w *Writer) commitBehind() {
	begun := w.begun
	index, offset := w.following()
	b := &behind{index: index, record: &partRecord{part: begun.part, Offset: offset}, done: make(chan struct{})}
	before := func() error { return nil }
	if n := len(w.behind); n > 0 {
		before = w.behind[n-1].wait
	}
	w.begun, w.behind = nil, append(w.behind, b)
	if b.err = w.store.quota.take(begun.Size); b.err != nil { // In the order of the parts, so that the first ones fit.
		begun.abort()
		close(b.done)
		return
	}
	go func() {
		defer close(b.done)
		b.err = w.commitPart(begun, b, before)
	}()
}

// mayBehind is how many parts may be committed while the next one is received. Where the engine holds parts in memory
// every one takes a spare, which the writer keeps to its end; an upload that finds none has one part at a time.
func (w *Writer) mayBehind() int {
	spares := w.store.spares
	if spares == nil {
		return maxBehind
	}
	for w.spares < len(w.behind) && w.spares < maxBehind && spares.TryAcquire(1) {
		w.spares++
	}
	return w.spares
}

func (w *Writer) giveSpares() {
	if w.spares > 0 {
		w.store.spares.Release(int64(w.spares))
		w.spares = 0
	}
}

// settle waits until no more than so many parts are being committed. If one could not be, nothing that arrived after it
// can.
func (w *Writer) settle(most int) error {
	for len(w.behind) > most {
		b, p := w.behind[0], w.progress
		if err := b.wait(); err != nil {
			w.abandon()
			return err
		}
		w.behind = w.behind[1:]
		p.next, p.size, p.active = p.next+1, b.record.end(), b.record.Time
	}
	return nil
}

// abandon waits for what is under way, and drops what is begun.
func (w *Writer) abandon() {
	for _, b := range w.behind {
		<-b.done
	}
	w.behind = nil
	if w.begun != nil {
		w.drop()
	}
}

// commitPart makes a part durable and then its record, which is the moment that counts.
func (w *Writer) commitPart(begun *begunPart, b *behind, before func() error) error {
	if err := w.store.quota.commit(begun); err != nil {
		w.discardPart(begun, err)
		return during("store a part", err)
	}
	if err := before(); err != nil {
		w.discardPart(begun, err)
		return err
	}
	b.record.Time = time.Now().UTC()
	err := w.createRecord(b.index, b.record)
	if err == nil {
		w.store.metrics.committedBytes.Add(float64(begun.Size))
		return nil
	}
	if !w.mayBeUsed(err) {
		w.discardPart(begun, err)
	}
	return w.explain(b.index, err)
}

// mayBeUsed tells whether an object may have, or may yet get, a part whose record could not be created. The record may
// appear later. It may even have been there, while the answer got lost, until another replica finished the upload and
// removed the records: if so, that is on record. Such a part is left for Expire, which knows the object.
func (w *Writer) mayBeUsed(err error) bool {
	if !errors.Is(err, errExists) {
		return errors.Is(err, errUnsure)
	}
	now := &progress{id: w.progress.id, header: w.progress.header}
	return w.store.loadComplete(w.ctx, now) != nil || now.complete
}

// discardPart removes a part that will not be committed, unless the store is away: then that would fail as well, and
// what is there is left to Expire.
func (w *Writer) discardPart(begun *begunPart, err error) {
	if !errors.Is(err, ErrUnavailable) {
		w.store.discard(w.ctx, begun.entry())
	}
}

// createRecord creates the record of an index, or returns errExists if another writer has done so.
func (w *Writer) createRecord(index int, record *partRecord) error {
	p := w.progress
	return w.store.bucket.create(w.ctx, recordKey(p.id, p.header.Generation, index), encodeJSON(record))
}

// explain says why a part's record could not be created: another writer took the upload over, or even finished it.
func (w *Writer) explain(index int, err error) error {
	if !errors.Is(err, errExists) {
		return during("commit a part", err)
	}
	record, err := w.store.readRecord(w.ctx, w.progress, index)
	if err == nil && record.Seal != nil && record.Seal.Object != nil {
		return &OffsetError{Committed: record.Offset}
	}
	return ErrWriterReplaced
}
