package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

// fewSums is how many checksums are read at a time: those for 32 MiB of content.
const fewSums = 1024

// reader is an engine.Reader. It reads whole blocks into the caller's buffer where they fit, and
// otherwise keeps a block, of which it gives out pieces.
type reader struct {
	ctx context.Context
	// file is open all the time, so that what is read is of one object. That its name is gone shows in
	// its number of links.
	file   *os.File
	footer engine.Footer
	// offset is that of the next byte to give out, and end where to stop.
	offset, end int64

	// sums are some of the table's checksums, those of the blocks from firstSum on.
	sums     []uint32
	firstSum int64
	// held is the block that begins at heldAt, verified; nil if there is none.
	held   []byte
	heldAt int64
}

// Open implements engine.Engine.
func (f *Folder) Open(
	ctx context.Context, name string, generation, offset, limit int64,
) (engine.Reader, error) {
	file, footer, err := f.open(name)
	if generation != 0 && errors.Is(err, engine.ErrNotFound) {
		return nil, engine.ErrGenerationGone
	}
	if err != nil {
		return nil, err
	}
	end, err := footer.Range(generation, offset, limit)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &reader{ctx: ctx, file: file, footer: footer, offset: offset, end: end}, nil
}

// Object implements engine.Reader.
func (r *reader) Object() engine.Object { return r.footer.Object }

// Remaining implements engine.Reader.
func (r *reader) Remaining() int64 { return r.end - r.offset }

// Memory implements engine.Reader: a block, and some checksums.
func (r *reader) Memory() (least, most int64) {
	bytes := min(r.Remaining(), blockBytes) + fewSums*engine.SumBytes
	return bytes, bytes
}

// Next implements engine.Reader. It looks at each call whether the object was replaced or deleted:
// a download of an object that is gone ends, as the contract says.
func (r *reader) Next(p []byte, _ bool) (n int, sum uint32, err error) {
	if r.offset == r.end {
		return 0, 0, io.EOF
	}
	if r.ctx.Err() != nil {
		return 0, 0, context.Cause(r.ctx)
	}
	if info, err := r.file.Stat(); err != nil {
		return 0, 0, err
	} else if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 0 {
		return 0, 0, engine.ErrGenerationGone
	}
	if n, sum, err = r.blocks(p); n == 0 && err == nil {
		n, sum, err = r.piece(p)
	}
	r.offset += int64(n)
	return n, sum, err
}

// blocks reads as many whole blocks as there is room for in p; it returns 0 if that is none, or if
// the offset is inside of a block or that of the block that is held. The last block of an object
// may be shorter than the others.
func (r *reader) blocks(p []byte) (n int, sum uint32, err error) {
	if r.offset%blockBytes != 0 || r.offset == r.heldAt && r.held != nil {
		return 0, 0, nil
	}
	want := min(int64(len(p)), r.end-r.offset)
	// Only the last block may be shorter.
	if r.offset+want != r.footer.Size {
		want -= want % blockBytes
	}
	if want == 0 {
		return 0, 0, nil
	}
	// Into the caller's buffer at once: what does not match its checksum is not returned.
	if err := r.read(p[:want], r.offset); err != nil {
		return 0, 0, err
	}
	for int64(n) < want {
		block := p[n:min(int64(n)+blockBytes, want)]
		got := crc32c.Checksum(block)
		if err := r.compare(r.offset+int64(n), got); err != nil {
			if n > 0 { // The blocks before the damaged one are intact.
				return n, sum, nil
			}
			return 0, 0, err
		}
		sum = crc32c.Combine(sum, got, int64(len(block)))
		n += len(block)
	}
	return n, sum, nil
}

// piece gives out a piece of one block, which it reads and verifies as a whole first: there is no
// checksum for less.
func (r *reader) piece(p []byte) (n int, sum uint32, err error) {
	at := r.offset - r.offset%blockBytes
	if r.held == nil || r.heldAt != at {
		size := min(blockBytes, r.footer.Size-at)
		if int64(cap(r.held)) < size {
			r.held = make([]byte, size)
		}
		r.held, r.heldAt = r.held[:size], at
		err := r.read(r.held, at)
		if err == nil {
			err = r.compare(at, crc32c.Checksum(r.held))
		}
		if err != nil {
			r.held = nil
			return 0, 0, err
		}
	}
	n = copy(p, r.held[r.offset-at:min(int64(len(r.held)), r.end-at)])
	return n, crc32c.Checksum(p[:n]), nil
}

// read fills p from the file. A file that ends too early is corrupt.
func (r *reader) read(p []byte, at int64) error {
	if _, err := r.file.ReadAt(p, at); err != nil {
		if errors.Is(err, io.EOF) {
			return r.corrupt(at)
		}
		return fmt.Errorf("read %q: %w", r.footer.Name, err)
	}
	return nil
}

// compare compares the checksum of the block at an offset with the one in the table, of which it
// reads the next part if need be.
func (r *reader) compare(at int64, got uint32) error {
	i := at / blockBytes
	if i < r.firstSum || i >= r.firstSum+int64(len(r.sums)) {
		// Downloads read blocks in their order, so that the next checksums are needed soon.
		table := make([]byte, min(fewSums, r.footer.Sums-i)*engine.SumBytes)
		if err := r.read(table, r.footer.Size+i*engine.SumBytes); err != nil {
			return err
		}
		r.sums, r.firstSum = engine.ParseSums(table), i
	}
	// The table is not verified apart: a damaged checksum is as bad as a damaged block, and is told
	// the same.
	if r.sums[i-r.firstSum] != got {
		return r.corrupt(at)
	}
	return nil
}

// corrupt is the error for the block at an offset.
func (r *reader) corrupt(at int64) error {
	return fmt.Errorf("%w: %q, %d bytes from %d on", engine.ErrCorrupt, r.footer.Name,
		min(blockBytes, r.footer.Size-at), at)
}

// Close implements engine.Reader.
func (r *reader) Close() error {
	r.held = nil
	return r.file.Close()
}
