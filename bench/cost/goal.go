package cost

import (
	"fmt"

	"example.com/quartet/bench/measure"
)

// goal is something that a part has to reach under each of its loads.
type goal struct {
	text  string
	judge func(results) (measured string, met bool)
}

// atLeast wants so much of another variant's metric, in the middle of the rounds.
func atLeast(of, to string, m metric, limit float64) goal {
	text := fmt.Sprintf("%s: %s at least %.2f of %s", of, m.name, limit, to)
	return goal{text, func(r results) (string, bool) {
		ratio := measure.SpreadOf(r.ratios(of, to, m))
		return ratio.String(), ratio.Median >= limit
	}}
}

// atMost wants no more of another variant's metric, in the middle of the rounds.
func atMost(of, to string, m metric, limit float64) goal {
	text := fmt.Sprintf("%s: %s at most %.2f of %s", of, m.name, limit, to)
	return goal{text, func(r results) (string, bool) {
		ratio := measure.SpreadOf(r.ratios(of, to, m))
		return ratio.String(), ratio.Median <= limit
	}}
}

// atMostMore bounds what a variant has more than another.
func atMostMore(of, to string, m metric, limit float64) goal {
	text := fmt.Sprintf("%s: at most %.4g more %s than %s", of, limit, m.name, to)
	return goal{text, func(r results) (string, bool) {
		more := r.median(of, m) - r.median(to, m)
		return fmt.Sprintf("%+.2f", more), more <= limit
	}}
}

// unresolved wants a difference to bare to drown in what the machine does by itself. It is resolved if chance explains
// neither that to bare nor that to bare again.
func unresolved(of string, m metric) goal {
	text := fmt.Sprintf("%s: %s not resolvably less than %s", of, m.name, bareName)
	return goal{text, func(r results) (string, bool) {
		ratios := r.ratios(of, bareName, m)
		resolved := measure.Less(ratios) && measure.Less(r.ratios(of, controlName, m))
		return measure.SpreadOf(ratios).String(), !resolved
	}}
}

// stretched marks a goal that is beyond what has to be.
func (g goal) stretched() goal {
	g.text += " (stretch)"
	return g
}

func (g goal) verdict(r results) string {
	measured, met := g.judge(r)
	if met {
		return g.text + ": " + measured + ": met"
	}
	return g.text + ": " + measured + ": **not met**"
}
