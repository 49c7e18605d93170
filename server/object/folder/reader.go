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

// fewSums is how many checksums are read at a time.
const fewSums = 1024

// reader is an engine.Reader. It holds on to the file, and asks it whether the name still leads to
// it.
type reader struct {
	ctx         context.Context
	file        *os.File
	footer      engine.Footer
	offset, end int64

	sums     []uint32 // from firstSum on
	firstSum int64
	held     []byte // the block that begins at heldAt, verified
	heldAt   int64
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

// Next implements engine.Reader.
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

// blocks reads as many whole blocks as there is room for; it returns 0 if that is none. The last
// block of an object is as long as it is.
func (r *reader) blocks(p []byte) (n int, sum uint32, err error) {
	if r.offset%blockBytes != 0 || r.offset == r.heldAt && r.held != nil {
		return 0, 0, nil
	}
	want := min(int64(len(p)), r.end-r.offset)
	if r.offset+want != r.footer.Size {
		want -= want % blockBytes
	}
	if want == 0 {
		return 0, 0, nil
	}
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

// piece gives out a piece of a block.
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

func (r *reader) read(p []byte, at int64) error {
	if _, err := r.file.ReadAt(p, at); err != nil {
		if errors.Is(err, io.EOF) {
			return r.corrupt(at)
		}
		return fmt.Errorf("read %q: %w", r.footer.Name, err)
	}
	return nil
}

// compare compares the checksum of the block at an offset with the one in the table.
func (r *reader) compare(at int64, got uint32) error {
	i := at / blockBytes
	if i < r.firstSum || i >= r.firstSum+int64(len(r.sums)) {
		table := make([]byte, min(fewSums, r.footer.Sums-i)*engine.SumBytes)
		if err := r.read(table, r.footer.Size+i*engine.SumBytes); err != nil {
			return err
		}
		r.sums, r.firstSum = engine.ParseSums(table), i
	}
	if r.sums[i-r.firstSum] != got {
		return r.corrupt(at)
	}
	return nil
}

func (r *reader) corrupt(at int64) error {
	return fmt.Errorf("%w: %q, %d bytes from %d on", engine.ErrCorrupt, r.footer.Name,
		min(blockBytes, r.footer.Size-at), at)
}

// Close implements engine.Reader.
func (r *reader) Close() error {
	r.held = nil
	return r.file.Close()
}
