package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. It is written as a number with an optional binary
// unit, as Kubernetes writes sizes: 1000, 8MiB, 64GiB, 1.5KiB.
type Bytes int64

// units go from the largest to the smallest. String takes the first that divides a size, and
// UnmarshalText must try "MiB" before "B", which is the end of it too. The empty unit is last
// because every text ends in it.
var units = []struct {
	name string
	size float64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText accepts what the type's description says, and nothing
// negative, fractional in bytes or beyond 2^63-1.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		// float64 holds every whole number up to 2^53 (8 PiB) exactly.
		size := value * unit.size
		// The negation also refuses NaN, which ParseFloat reads from "nan", and which no comparison holds
		// for.
		if err != nil || !(size >= 0 && size < math.MaxInt64) || size != math.Trunc(size) {
			break
		}
		*b = Bytes(size)
		return nil
	}
	return fmt.Errorf("%q is no size such as 1000, 8MiB or 64GiB", text)
}

// String is the shortest exact form that UnmarshalText reads back.
func (b Bytes) String() string {
	// The first unit that leaves no remainder gives the shortest number. 0 is left out: it would be
	// "0TiB".
	for _, unit := range units {
		if size := int64(unit.size); b != 0 && int64(b)%size == 0 {
			return strconv.FormatInt(int64(b)/size, 10) + unit.name
		}
	}
	return "0B"
}
