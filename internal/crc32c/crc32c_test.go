package crc32c

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestChecksumIsCastagnoli(t *testing.T) {
	// The check value that every catalogue of CRCs lists for CRC-32C.
	if got := Checksum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("Checksum = %#x", got)
	}
	if got := Checksum(nil); got != 0 {
		t.Errorf("Checksum of nothing = %#x", got)
	}
}

func TestUpdateContinues(t *testing.T) {
	if got := Update(Checksum([]byte("1234")), []byte("56789")); got != 0xe3069283 {
		t.Errorf("Update = %#x", got)
	}
}

func TestCombineEqualsTheWhole(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 70_000)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for range 500 {
		whole := data[:random.IntN(len(data)+1)]
		cut := random.IntN(len(whole) + 1)
		got := Combine(Checksum(whole[:cut]), Checksum(whole[cut:]), int64(len(whole)-cut))
		if want := Checksum(whole); got != want {
			t.Fatalf("Combine of %d bytes cut at %d = %#x, want %#x", len(whole), cut, got, want)
		}
	}
}

func TestCombineWithNothing(t *testing.T) {
	crc := Checksum([]byte("some bytes"))
	if got := Combine(crc, 0, 0); got != crc {
		t.Errorf("A and nothing = %#x, want %#x", got, crc)
	}
	if got := Combine(0, crc, 10); got != crc {
		t.Errorf("nothing and B = %#x, want %#x", got, crc)
	}
	if got := Combine(0, 0, 0); got != 0 {
		t.Errorf("nothing and nothing = %#x", got)
	}
}

// Beyond what fits into memory, combining in either order must agree: (A B) C equals A (B C). Runs
// of zeros of any length are themselves made by doubling.
func TestCombineIsAssociativeAtAnyLength(t *testing.T) {
	zeros, length := Checksum([]byte{0}), int64(1)
	a := Checksum([]byte("the beginning"))
	for length < math.MaxInt64/4 {
		left := Combine(Combine(a, zeros, length), zeros, length)
		zeros = Combine(zeros, zeros, length)
		length *= 2
		if right := Combine(a, zeros, length); left != right {
			t.Fatalf("at %d bytes: (A B) C = %#x, A (B C) = %#x", length, left, right)
		}
	}
}

func TestCombineKnowsFourGibibytesOfZeros(t *testing.T) {
	// The reference is computed by going through the bytes, a mebibyte at a time.
	block := make([]byte, 1<<20)
	want := uint32(0)
	for range 4<<10 + 1 {
		want = Update(want, block)
	}
	zeros, got := Checksum(block), uint32(0)
	for range 4<<10 + 1 {
		got = Combine(got, zeros, 1<<20)
	}
	if got != want {
		t.Errorf("block by block = %#x, want %#x", got, want)
	}
	half := zeros
	for size := int64(1 << 20); size < 4<<30; size *= 2 {
		half = Combine(half, half, size)
	}
	if got := Combine(zeros, half, 4<<30); got != want {
		t.Errorf("in one step over 4 GiB = %#x, want %#x", got, want)
	}
}

func BenchmarkCombine(b *testing.B) {
	for b.Loop() {
		Combine(0xe3069283, 0x12345678, 8<<20)
	}
}
