package object

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"example.com/quartet/internal/crc32c"
)

func TestContentIsTheSameInEveryWay(t *testing.T) {
	const size = 2*mebi + 7
	want := bytes.Repeat(block, 3)[:size]
	if err := iotest.TestReader(newContent(5000), want[:5000]); err != nil {
		t.Error(err)
	}
	read, err := io.ReadAll(struct{ io.Reader }{newContent(size)})
	if err != nil || !bytes.Equal(read, want) {
		t.Errorf("read %d other bytes, %v", len(read), err)
	}
	var written bytes.Buffer
	if n, err := newContent(size).WriteTo(&written); n != size || err != nil ||
		!bytes.Equal(written.Bytes(), want) {
		t.Errorf("wrote %d other bytes, %v", n, err)
	}
	if got, want := sumOf(size), (Sum{size, crc32c.Checksum(want)}); got != want {
		t.Errorf("sum %v, want %v", got, want)
	}
}
