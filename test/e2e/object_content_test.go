package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
)

// newContent makes bytes that no compression makes fewer, the same for the same seed.
func newContent(t *testing.T, seed byte, size int) string {
	t.Helper()
	content := make([]byte, size)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{seed}), content); err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pattern makes content of any size that is kept nowhere: it is one block over and over. The length
// of the block has nothing in common with those of chunks and parts, so that whatever comes to a
// wrong place is wrong there.
type pattern []byte

func newPattern(t *testing.T) pattern { t.Helper(); return pattern(newContent(t, 3, 1<<20+7)) }

// bulk is content that begins somewhere in the block of a pattern.
type bulk struct {
	pattern
	origin, size int64
}

// number makes content that differs from that of every other number, up to a few thousand.
func (p pattern) number(n, size int64) bulk { return bulk{p, n * 4099 % int64(len(p)), size} }

// from is some of the content from an offset on, and empty only at the end.
func (b bulk) from(offset int64) []byte {
	rest := b.pattern[(b.origin+offset)%int64(len(b.pattern)):]
	return rest[:min(int64(len(rest)), b.size-offset)]
}

// crc32c is the checksum of the whole, found by other means than those that are tested.
func (b bulk) crc32c() (sum uint32) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for offset := int64(0); offset < b.size; offset += int64(len(b.from(offset))) {
		sum = crc32.Update(sum, table, b.from(offset))
	}
	return sum
}

// check wants bytes to be those of the content at an offset.
func (b bulk) check(offset int64, got []byte) error {
	for len(got) > 0 {
		want := b.from(offset)
		n := min(len(want), len(got))
		if n == 0 || !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("wrong bytes among the %d from offset %d on", len(got), offset)
		}
		offset, got = offset+int64(n), got[n:]
	}
	return nil
}
