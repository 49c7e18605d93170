package measure

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Quantile is the value that a share q of the sorted values does not exceed. Of none it is zero.
func Quantile[T cmp.Ordered](sorted []T, q float64) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median is the middle value, or the mean of the two in the middle. Of none it is NaN.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Spread is a median with the least and the greatest value around it.
type Spread struct{ Median, Min, Max float64 }

// SpreadOf is the spread of at least one value.
func SpreadOf(values []float64) Spread {
	return Spread{Median(values), slices.Min(values), slices.Max(values)}
}

func (s Spread) String() string { return fmt.Sprintf("%.3f [%.2f–%.2f]", s.Median, s.Min, s.Max) }

// Ratios divides round by round: the two values of a round were measured within seconds of each
// other, so whatever slowed the machine down slowed both.
func Ratios(of, to []float64) []float64 {
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = of[i] / to[i]
	}
	return ratios
}

// doubt is the chance that is still taken for chance.
const doubt = 0.05

// Less reports whether ratios are below 1 in more rounds than chance explains. It is a sign test:
// where nothing differs, each round is the toss of a coin.
func Less(ratios []float64) bool {
	var below, tosses int
	for _, r := range ratios {
		if r < 1 {
			below++
		}
		if r != 1 {
			tosses++
		}
	}
	return chance(below, tosses) < doubt
}

// chance is how likely n tosses give heads at least k times.
func chance(k, n int) float64 {
	ways, total := 1.0, 0.0 // of choosing i of n, beginning with 0
	for i := range n + 1 {
		if i >= k {
			total += ways
		}
		ways *= float64(n-i) / float64(i+1)
	}
	return total / math.Exp2(float64(n))
}
