package object

import (
	"testing"
	"time"

	"example.com/quartet/test/bench/measure"
)

// took makes one sample of a GiB per duration. Each side had the processor for as long, and grew by
// so many MiB.
func took(grown int64, durations ...time.Duration) (samples []Sample) {
	for _, d := range durations {
		samples = append(samples, Sample{gibi, d, Side{d, grown * mebi}, Side{d, 2 * grown * mebi}})
	}
	return samples
}

func TestGoalsCompareTheMiddleOfTheRounds(t *testing.T) {
	// The machine slows down from round to round; b takes a quarter more in two of three.
	r := results{
		"a": took(10, 1*time.Second, 2*time.Second, 4*time.Second),
		"b": took(40, 1250*time.Millisecond, 2500*time.Millisecond, 4*time.Second),
	}
	for _, test := range []struct {
		goal goal
		want string
	}{
		{measure.AtLeast("b", "a", rate, 0.8), "b: rate at least 0.80 of a: 0.800 [0.80–1.00]: met"},
		{measure.AtLeast("b", "a", rate, 0.81).Stretched(), "b: rate at least 0.81 of a (stretch): 0.800 [0.80–1.00]: **not met**"},
		{measure.AtMost("b", "a", cpu, 1.25), "b: CPU per GiB at most 1.25 of a: 1.250 [1.00–1.25]: met"},
		{measure.AtMost("b", "a", cpu, 1.2), "b: CPU per GiB at most 1.20 of a: 1.250 [1.00–1.25]: **not met**"},
		{grows("a", 20), "a: memory grows by at most 20 MiB per side: client 10.0, server 20.0: met"},
		{grows("a", 19), "a: memory grows by at most 19 MiB per side: client 10.0, server 20.0: **not met**"},
		{growsPerMore("b", "a", 4),
			"b: memory grows by at most 4 MiB per side for each further transfer: client 2.0, server 4.0: met"},
		{growsPerMore("b", "a", 3),
			"b: memory grows by at most 3 MiB per side for each further transfer: client 2.0, server 4.0: **not met**"},
	} {
		if got := test.goal.Verdict(r); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
