package cost

import (
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/bench/measure"
)

// took makes one sample per duration, in which a hundred were done with as many allocations on each
// side as are given.
func took(mallocs uint64, durations ...time.Duration) (samples []Sample) {
	for _, d := range durations {
		used := measure.Usage{Mallocs: 100 * mallocs}
		samples = append(samples, Sample{Result{Done: 100, Took: d, P50: d, P99: d, Used: used}, used})
	}
	return samples
}

func TestGoalsCompareTheMiddleOfTheRounds(t *testing.T) {
	// The machine slows down from round to round; b takes a quarter more in two of three.
	r := results{
		"a": took(10, 1*time.Second, 2*time.Second, 4*time.Second),
		"b": took(18, 1250*time.Millisecond, 2500*time.Millisecond, 4*time.Second),
	}
	for _, test := range []struct {
		goal goal
		want string
	}{
		{measure.AtLeast("b", "a", rate, 0.8), "b: rate at least 0.80 of a: 0.800 [0.80–1.00]: met"},
		{measure.AtLeast("b", "a", rate, 0.81), "b: rate at least 0.81 of a: 0.800 [0.80–1.00]: **not met**"},
		{measure.AtLeast("b", "a", rate, 0.8).Stretched(), "b: rate at least 0.80 of a (stretch): 0.800 [0.80–1.00]: met"},
		{measure.AtMost("b", "a", p99, 1.25), "b: p99 at most 1.25 of a: 1.250 [1.00–1.25]: met"},
		{measure.AtMost("b", "a", p50, 1.2), "b: p50 at most 1.20 of a: 1.250 [1.00–1.25]: **not met**"},
		{atMostMore("b", "a", allocs, 16), "b: at most 16 more allocations than a: +16.00: met"},
		{atMostMore("b", "a", allocs, 0.05), "b: at most 0.05 more allocations than a: +16.00: **not met**"},
	} {
		if got := test.goal.Verdict(r); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestOnlyWhatBothControlsShowIsResolved(t *testing.T) {
	fast, slow := 100*time.Millisecond, 101*time.Millisecond
	for _, test := range []struct {
		name           string
		ours, control  time.Duration
		slower, rounds int
		met            bool
	}{
		{"a percent in every round", slow, fast, 11, 11, false},
		{"a percent in half the rounds", slow, fast, 6, 11, true},
		{"a percent that bare again has too", slow, slow, 11, 11, true},
		{"one round", slow, fast, 1, 1, true},
		{"nothing", fast, fast, 11, 11, true},
	} {
		bare := slices.Repeat([]time.Duration{fast}, test.rounds)
		control := slices.Repeat([]time.Duration{test.control}, test.rounds)
		ours := append(slices.Repeat([]time.Duration{test.ours}, test.slower),
			slices.Repeat([]time.Duration{fast - time.Millisecond}, test.rounds-test.slower)...)
		r := results{bareName: took(1, bare...), controlName: took(1, control...), "ours": took(1, ours...)}
		if got := unresolved("ours", rate).Verdict(r); strings.HasSuffix(got, ": met") != test.met {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}
