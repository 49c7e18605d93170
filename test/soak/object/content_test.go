package soak

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
)

const (
	partBytes  = 64 << 10
	chunkBytes = 16 << 10
	maxContent = 1 << 20
)

// content is what an upload sends. Everything about it follows from its number, and its number is
// in its media type, so that a reader knows what it has to be.
type content struct {
	number int
	data   []byte
	crc32c uint32
}

func (c *content) mediaType() string { return fmt.Sprintf("application/x-soak-%d", c.number) }

// library makes contents. They are windows on one random block, each of which begins elsewhere, so
// that two of them differ at every offset and none takes memory of its own.
type library struct{ block []byte }

func newLibrary(seed uint64) *library {
	l := &library{block: make([]byte, 8<<20)}
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	_, _ = rand.NewChaCha8(key).Read(l.block) // It never fails.
	return l
}

func (l *library) content(number int) *content {
	random := rand.New(rand.NewPCG(uint64(number), 1))
	// 4099 is prime, so that numbers share no window.
	begin := number * 4099 % (len(l.block) - maxContent)
	data := l.block[begin : begin+size(random)]
	return &content{number, data, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))}
}

// size prefers what is near a boundary of parts and chunks, and small objects to big ones.
func size(random *rand.Rand) int {
	switch random.IntN(12) {
	case 0:
		return random.IntN(3)
	case 1, 2:
		return partBytes*random.IntN(4) + random.IntN(3)
	case 3, 4:
		return max(0, partBytes*random.IntN(4)-random.IntN(3))
	case 5:
		return chunkBytes * random.IntN(16)
	case 6:
		return random.IntN(maxContent)
	default:
		return random.IntN(2 * partBytes)
	}
}

// random returns the numbers by which one actor, a worker or a source of faults, decides.
func random(seed uint64, actor ...any) *rand.Rand {
	h := crc32.ChecksumIEEE([]byte(fmt.Sprint(actor...)))
	return rand.New(rand.NewPCG(seed, uint64(h)))
}

// pick returns one of several values, each as often as its weight says.
func pick[T any](random *rand.Rand, choices []choice[T]) T {
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := random.IntN(total)
	i := slices.IndexFunc(choices, func(c choice[T]) bool { n -= c.weight; return n < 0 })
	return choices[i].value
}

type choice[T any] struct {
	weight int
	value  T
}
