// Package crc32c computes and combines CRC-32C (Castagnoli) checksums, the ones by which bytes are
// verified everywhere. Processors compute it in hardware, at many times the speed of a network, and
// the checksums of neighbouring pieces combine into the checksum of the whole without the bytes,
// which is why a resumed transfer carries no hash state.
package crc32c

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of data; of no data it is 0.
func Checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// Update returns the CRC-32C of what crc covers followed by data.
func Update(crc uint32, data []byte) uint32 { return crc32.Update(crc, castagnoli, data) }

// Pieces returns the length in bytes and the CRC-32C of pieces that follow one another.
func Pieces(pieces [][]byte) (size int64, crc32c uint32) {
	for _, piece := range pieces {
		size, crc32c = size+int64(len(piece)), Update(crc32c, piece)
	}
	return size, crc32c
}

// Combine returns the CRC-32C of A followed by B, given the checksums of both and the length of B
// in bytes. A length of 0 or less stands for an empty B. It takes as many steps as lenB has ones in
// binary, each about a tenth of a microsecond: a power of two is one step.
//
// A checksum is the remainder of the message, read as a polynomial over GF(2), after division by
// the CRC's polynomial. Appending B multiplies the polynomial of A by x^(8·lenB) and adds that of
// B, and remainders obey the same arithmetic. The inversions at the start and the end of a CRC
// cancel out: the one that ends A is the one that B begins with.
func Combine(crcA, crcB uint32, lenB int64) uint32 {
	return multiply(crcA, powerOfX8(lenB)) ^ crcB
}

// The polynomials below are remainders, in the bit order of the CRC: the highest bit is the
// coefficient of x^0.
const (
	one = uint32(1) << 31
	x8  = uint32(1) << (31 - 8)
)

// squares[i] is x^(8·2^i).
var squares = func() (squares [63]uint32) {
	square := x8
	for i := range squares {
		squares[i] = square
		square = multiply(square, square)
	}
	return squares
}()

// powerOfX8 returns x^(8·n).
func powerOfX8(n int64) uint32 {
	power := one
	for i := 0; n > 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			power = multiply(power, squares[i])
		}
	}
	return power
}

// multiply returns a·b, adding b·x^i for each x^i in a.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		carry := b & 1 // the coefficient of x^31, which becomes x^32 and is reduced
		b = b>>1 ^ carry*crc32.Castagnoli
	}
	return product
}
