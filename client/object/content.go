package object

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/traffic"
)

// content is bytes that are never kept: a generator makes them again from the seed and the size, so
// that traffic of any size needs no memory and no file.
type content struct {
	seed uint64
	size int64
	// crc is the CRC-32C of all of them.
	crc uint32
}

// newContent makes the bytes once for their checksum.
func newContent(seed uint64, size int64) content {
	c := content{seed: seed, size: size}
	r := c.reader()
	for buffer := make([]byte, 32<<10); ; {
		n, err := r.Read(buffer)
		if err != nil {
			return c
		}
		c.crc = crc32c.Update(c.crc, buffer[:n])
	}
}

// reader reads the content from its beginning.
func (c content) reader() *reader {
	r := &reader{content: c}
	r.rewind()
	return r
}

// verify compares what a server says of an object with what is known of it.
func (c content) verify(name string, object *quartetv1.Object) error {
	if object.GetName() == name && object.GetSizeBytes() == uint64(c.size) &&
		object.GetCrc32C() == c.crc {
		return nil
	}
	return fmt.Errorf("%w: object %q of %d bytes with crc32c %08x, "+
		"expected %q of %d bytes with crc32c %08x", traffic.ErrWrong,
		object.GetName(), object.GetSizeBytes(), object.GetCrc32C(), name, c.size, c.crc)
}

// reader reads a content, again and from anywhere, so that an upload of any size can be resumed.
type reader struct {
	content
	random *rand.ChaCha8
	offset int64
}

// rewind goes back to the beginning, which is to begin the generator anew.
func (r *reader) rewind() {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.seed)
	r.random, r.offset = rand.NewChaCha8(seed), 0
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.offset == r.size {
		return 0, io.EOF
	}
	n, _ := r.random.Read(p[:min(int64(len(p)), r.size-r.offset)]) // It never fails.
	r.offset += int64(n)
	return n, nil
}

// Seek implements io.Seeker. It has to make the bytes on the way, since the generator cannot skip
// any.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 || offset > r.size {
		return 0, fmt.Errorf("seek to %d of %d", offset, r.size)
	}
	if offset < r.offset {
		r.rewind()
	}
	_, err := io.CopyN(io.Discard, r, offset-r.offset)
	return offset, err
}

// comparer is where a download goes whose content is known. It fails at the first byte that is
// wrong, or is too much; complete finds what is missing.
type comparer struct {
	want   *reader
	buffer [32 << 10]byte
}

// Write implements io.Writer.
func (c *comparer) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		at := c.want.offset
		n, err := c.want.Read(c.buffer[:min(len(c.buffer), len(p)-done)])
		if err != nil {
			return done, fmt.Errorf("%w: more than the expected %d bytes", traffic.ErrWrong, c.want.size)
		}
		if !bytes.Equal(p[done:done+n], c.buffer[:n]) {
			return done, fmt.Errorf("%w: bytes between %d and %d are not those that were uploaded",
				traffic.ErrWrong, at, at+int64(n))
		}
		done += n
	}
	return len(p), nil
}

// complete tells whether all of the content has come.
func (c *comparer) complete() error {
	if c.want.offset < c.want.size {
		return fmt.Errorf("%w: %d bytes, expected %d", traffic.ErrWrong, c.want.offset, c.want.size)
	}
	return nil
}
