package store

import "example.com/quartet/internal/crc32c"

// run is bytes in the order of an object, in the pieces that they came in. Its checksum is computed once, and combined
// into those of the part and of the object, because a pass over all bytes is a good part of what an upload costs.
type run struct {
	pieces [][]byte
	size   int64
	crc32c uint32
}

func newRun(pieces [][]byte) run {
	size, sum := crc32c.Pieces(pieces)
	return run{pieces, size, sum}
}

// divide returns the first n bytes and the others. It looks at all of them again.
func (r run) divide(n int64) (first, rest run) {
	i := 0
	for ; n >= int64(len(r.pieces[i])); i++ {
		n -= int64(len(r.pieces[i]))
	}
	before, after := r.pieces[i][:n], r.pieces[i][n:]
	return newRun(append(r.pieces[:i:i], before)), newRun(append([][]byte{after}, r.pieces[i+1:]...))
}
