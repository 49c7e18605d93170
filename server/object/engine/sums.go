package engine

import "example.com/quartet/internal/crc32c"

// Sums are the CRC-32C checksums of what has arrived of an upload, one for each block of
// BlockBytes. They can be combined without the bytes: the checksum of the whole, and that of any
// run of chunks, comes from those of the parts.
type Sums struct {
	BlockBytes int64
	// Size is how many bytes they cover.
	Size int64
	// Full are those of full blocks; an engine may take away what it has stored elsewhere.
	Full []uint32
	// Rest is that of the bytes after the last full block.
	Rest uint32
	// whole is the checksum of all full blocks together, also of those that were taken away from Full.
	whole uint32
}

// AddBlock takes a full block, whose checksum is known.
func (s *Sums) AddBlock(sum uint32) {
	s.Size += s.BlockBytes
	s.Full = append(s.Full, sum)
	s.whole, s.Rest = crc32c.Combine(s.whole, sum, s.BlockBytes), 0
}

// After returns the checksums with pieces that follow, of size bytes, or an ErrChecksumMismatch if
// the CRC-32C of the pieces together is not the one that was stated. It goes through the bytes once
// for both. No more than one of what it has returned and s may be used after that.
func (s Sums) After(pieces [][]byte, stated uint32) (after Sums, size int64, err error) {
	after = s
	for _, piece := range pieces {
		for len(piece) > 0 {
			part := piece[:min(int64(len(piece)), s.BlockBytes-after.Size%s.BlockBytes)]
			after.Rest = crc32c.Update(after.Rest, part)
			if after.Size += int64(len(part)); after.Size%s.BlockBytes == 0 {
				after.Size -= s.BlockBytes
				after.AddBlock(after.Rest)
			}
			piece = piece[len(part):]
		}
	}
	size = after.Size - s.Size
	if after.CRC32C() != crc32c.Combine(s.CRC32C(), stated, size) {
		return s, size, ErrChecksumMismatch
	}
	return after, size, nil
}

// CRC32C covers all that has arrived.
func (s Sums) CRC32C() uint32 { return crc32c.Combine(s.whole, s.Rest, s.Size%s.BlockBytes) }
