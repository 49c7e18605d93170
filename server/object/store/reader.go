package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"example.com/quartet/internal/crc32c"
)

// Reader reads an object, or a range of it, as it was when it was opened. It belongs to one goroutine.
type Reader struct {
	store    *Store
	ctx      context.Context
	manifest *manifest
	offset   int64 // of the next byte, in the object
	end      int64 // where to stop

	index     int   // the next part to open
	nextStart int64 // where that part begins, in the object

	ahead   *ahead        // the next part, if it is being opened already
	blob    io.ReadCloser // nil between parts
	blobEnd int64         // where to stop in this part, in the object
	whole   bool          // the part is read from its first to its last byte
	crc     uint32        // of what was read of the part
	err     error
}

// ahead is a part that is opened before it is its turn, so that the store's answer is there when it is.
type ahead struct {
	blob   io.ReadCloser
	err    error
	opened chan struct{} // closed when the answer is there
}

// aheadBytes before the end of a part the next one is opened. It is not much, so that a reader that is slow does not
// keep two parts open.
const aheadBytes = 1 << 20

// OpenReader opens an object for reading from offset: limit bytes, or all to the end if limit is 0. If generation is
// not 0 it is that one or an ErrGenerationGone. An offset beyond the end is a RangeError; the end itself gives an empty
// range. ctx ends the reading.
func (s *Store) OpenReader(ctx context.Context, name string, generation, offset, limit int64) (*Reader, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if offset < 0 || limit < 0 {
		return nil, fmt.Errorf("%w: offset %d, limit %d", ErrInvalidArgument, offset, limit)
	}
	m, err := s.readManifest(ctx, name)
	if err != nil && (generation == 0 || !errors.Is(err, ErrNotFound)) {
		return nil, err
	}
	if generation != 0 && (m == nil || m.Generation != generation) {
		return nil, ErrGenerationGone
	}
	if offset > m.Size {
		return nil, &RangeError{Size: m.Size}
	}
	if limit == 0 || limit > m.Size-offset {
		limit = m.Size - offset
	}
	if offset > 0 {
		s.metrics.resumedDownloads.Inc()
	}
	return s.newReader(ctx, m, offset, offset+limit), nil
}

func (s *Store) newReader(ctx context.Context, m *manifest, offset, end int64) *Reader {
	r := &Reader{store: s, ctx: ctx, manifest: m, offset: offset, end: end}
	for r.index < len(m.Parts) && r.nextStart+m.Parts[r.index].Size <= offset {
		r.nextStart += m.Parts[r.index].Size
		r.index++
	}
	return r
}

// Object returns the object that is being read.
func (r *Reader) Object() Object { return r.manifest.Object }

// Remaining returns how many bytes there are still to read.
func (r *Reader) Remaining() int64 { return r.end - r.offset }

// partBytes is about what it takes to know a part: its key, size and checksum.
const partBytes = 160

// Bytes is how much memory the reader takes, without that of whoever reads.
func (r *Reader) Bytes() int64 { return int64(len(r.manifest.Parts)) * partBytes }

// Next reads the next bytes of the object into p: at least one, and fewer than there is room for only at the end of the
// range or of a part. It returns their checksum, so that nobody has to look at all bytes again. At the end it is io.EOF.
//
// ErrGenerationGone means that the object was replaced or deleted meanwhile, ErrCorrupt that its bytes are not those that
// were written; the checksum of a part is verified if the range covers all of it, before its last byte is returned.
func (r *Reader) Next(p []byte) (n int, sum uint32, err error) {
	if r.err == nil && r.offset == r.end {
		r.err = io.EOF
	}
	if r.err != nil || len(p) == 0 {
		return 0, 0, r.err
	}
	n, sum, err = r.next(p)
	if err != nil {
		r.err = err
		return 0, 0, err
	}
	return n, sum, nil
}

// Read implements io.Reader with Next.
func (r *Reader) Read(p []byte) (int, error) {
	n, _, err := r.Next(p)
	return n, err
}

func (r *Reader) next(p []byte) (n int, sum uint32, err error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, 0, err
	}
	if r.blob == nil {
		if err := r.open(); err != nil {
			return 0, 0, err
		}
	}
	p = p[:min(int64(len(p)), r.blobEnd-r.offset)]
	for n < len(p) && err == nil {
		var more int
		more, err = r.blob.Read(p[n:])
		n += more
	}
	switch {
	case n == len(p): // Whatever else there is to say, these bytes are complete.
	case errors.Is(err, io.EOF):
		return 0, 0, r.corrupt("is too short")
	default:
		return 0, 0, during("read a part", err)
	}
	if r.ahead == nil && r.blobEnd < r.end && r.blobEnd-r.offset <= aheadBytes {
		r.openAhead()
	}
	sum = crc32c.Checksum(p)
	r.offset += int64(n)
	r.crc = crc32c.Combine(r.crc, sum, int64(n))
	if r.offset == r.blobEnd {
		return n, sum, r.endPart()
	}
	return n, sum, nil
}

// open makes the part at the offset the one that is read. It asks for no byte that the manifest does not have, because
// engines differ in what they say of a range beyond the end.
func (r *Reader) open() error {
	if r.ahead == nil {
		r.openAhead()
	}
	a, part := r.ahead, r.manifest.Parts[r.index]
	r.ahead = nil
	<-a.opened
	if errors.Is(a.err, errNoKey) {
		return r.gone()
	}
	if a.err != nil {
		return during("open a part", a.err)
	}
	partEnd := r.nextStart + part.Size
	r.blob, r.blobEnd, r.crc = a.blob, min(partEnd, r.end), 0
	r.whole = r.offset == r.nextStart && r.blobEnd == partEnd
	r.index, r.nextStart = r.index+1, partEnd
	return nil
}

// openAhead begins to open the next part.
func (r *Reader) openAhead() {
	part, a := r.manifest.Parts[r.index], &ahead{opened: make(chan struct{})}
	from, to := max(r.offset, r.nextStart)-r.nextStart, min(part.Size, r.end-r.nextStart)
	r.ahead = a
	go func() {
		defer close(a.opened)
		a.blob, a.err = r.store.bucket.reader(r.ctx, part.Key, from, to-from)
	}()
}

// gone tells a part that was removed with its object from one that was lost.
func (r *Reader) gone() error {
	m, err := r.store.readManifest(r.ctx, r.manifest.Name)
	switch {
	case err == nil && m.Generation == r.manifest.Generation:
		return r.store.corrupt("part %d of %q is missing", r.index, m.Name)
	case err == nil, errors.Is(err, ErrNotFound):
		return ErrGenerationGone
	default:
		return err
	}
}

func (r *Reader) endPart() error {
	err := r.closeBlob()
	if r.whole && r.crc != r.manifest.Parts[r.index-1].CRC32C {
		return r.corrupt("does not match its checksum")
	}
	return during("close a part", err)
}

func (r *Reader) corrupt(how string) error {
	return r.store.corrupt("part %d of %q %s", r.index-1, r.manifest.Name, how)
}

// Close ends the reading.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = errors.New("reader is closed")
	}
	if a := r.ahead; a != nil {
		go func() { // The store may take its time to answer somebody who has gone.
			if <-a.opened; a.blob != nil {
				_ = a.blob.Close()
			}
		}()
	}
	return during("close a part", r.closeBlob())
}

func (r *Reader) closeBlob() error {
	if r.blob == nil {
		return nil
	}
	blob := r.blob
	r.blob = nil
	return blob.Close()
}
