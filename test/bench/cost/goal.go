package cost

import (
	"fmt"

	"example.com/quartet/test/bench/measure"
)

// atMostMore bounds what a variant has more than another.
func atMostMore(of, to string, m metric, limit float64) goal {
	text := fmt.Sprintf("%s: at most %.4g more %s than %s", of, limit, m.Name, to)
	return goal{Text: text, Measure: func(r results) (string, bool) {
		more := r.Median(of, m) - r.Median(to, m)
		return fmt.Sprintf("%+.2f", more), more <= limit
	}}
}

// unresolved wants a difference to bare to drown in what the machine does by itself. It is resolved
// if chance explains neither that to bare nor that to bare again.
func unresolved(of string, m metric) goal {
	text := fmt.Sprintf("%s: %s not resolvably less than %s", of, m.Name, bareName)
	return goal{Text: text, Measure: func(r results) (string, bool) {
		ratios := r.Ratios(of, bareName, m)
		resolved := measure.Less(ratios) && measure.Less(r.Ratios(of, controlName, m))
		return measure.SpreadOf(ratios).String(), !resolved
	}}
}
