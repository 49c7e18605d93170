package object

import (
	"errors"
	"io"
	"math/rand/v2"

	"example.com/quartet/internal/crc32c"
)

// block is what every content consists of, again and again. It is so small because what a process
// holds on its heap paces its collector of garbage: with the whole content there, everything else
// would look cheap.
var block = randomBlock(1 << 20)

func randomBlock(size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b) // It never fails.
	return b
}

// content is a file of so many bytes in memory. It can be read again from anywhere, as a file can.
type content struct{ at, size int64 }

func newContent(size int64) *content { return &content{size: size} }

// next is what comes without a break, at most n bytes of it.
func (c *content) next(n int64) []byte {
	rest := block[c.at%int64(len(block)):]
	n = min(n, int64(len(rest)), c.size-c.at)
	c.at += n
	return rest[:n]
}

func (c *content) Read(p []byte) (int, error) {
	if c.at >= c.size {
		return 0, io.EOF
	}
	return copy(p, c.next(int64(len(p)))), nil
}

// WriteTo hands out the block itself: a program that has a file in memory does not copy it first.
func (c *content) WriteTo(w io.Writer) (written int64, err error) {
	for c.at < c.size && err == nil {
		var n int
		n, err = w.Write(c.next(c.size))
		written += int64(n)
	}
	return written, err
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return c.at, errors.New("seek before the start")
	}
	c.at = offset
	return offset, nil
}

// Sum is how many bytes came, and their CRC-32C if it was asked for.
type Sum struct {
	Bytes int64
	CRC   uint32
}

// sumOf is the number of bytes of a content that came whole.
func sumOf(size int64) Sum {
	sink := sink{check: true}
	_, _ = newContent(size).WriteTo(&sink) // A sink takes everything.
	return sink.Sum
}

// sink counts what is written to it, and drops it.
type sink struct {
	Sum
	check bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.check {
		s.CRC = crc32c.Update(s.CRC, p)
	}
	s.Bytes += int64(len(p))
	return len(p), nil
}

// bufferBytes is how much is read at a time where the reader may choose.
const bufferBytes = 256 << 10

// copyAll reads to the end with a buffer of that size, whatever shortcuts the two sides offer.
func copyAll(w io.Writer, r io.Reader, buffer []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buffer)
	return err
}
