package files

import (
	"fmt"

	"example.com/quartet/bench/measure"
)

// goal is something that a table has to show.
type goal struct {
	text  string
	judge func(results) (measured string, met bool)
}

// atLeast wants so much of another contestant's rate, in the middle of the rounds.
func atLeast(of, to string, limit float64) goal {
	text := fmt.Sprintf("%s: rate at least %.2f of %s", of, limit, to)
	return goal{text, func(r results) (string, bool) {
		ratio := measure.SpreadOf(r.ratios(of, to, rate))
		return ratio.String(), ratio.Median >= limit
	}}
}

// atMost wants no more CPU time than another contestant's, in the middle of the rounds.
func atMost(of, to string, limit float64) goal {
	text := fmt.Sprintf("%s: CPU per GiB at most %.2f of %s", of, limit, to)
	return goal{text, func(r results) (string, bool) {
		ratio := measure.SpreadOf(r.ratios(of, to, cpu))
		return ratio.String(), ratio.Median <= limit
	}}
}

// grows wants either side to grow by no more MiB.
func grows(of string, limit float64) goal {
	text := fmt.Sprintf("%s: memory grows by at most %.0f MiB per side", of, limit)
	return goal{text, func(r results) (string, bool) {
		client, server := r.median(of, clientMemory), r.median(of, serverMemory)
		return fmt.Sprintf("client %.1f, server %.1f", client, server), max(client, server) <= limit
	}}
}

// most is how many transfers at once are measured at most.
const most = 16

// growsPerMore wants either side to grow by no more MiB for each transfer of so many than for the one.
func growsPerMore(many, one string, limit float64) goal {
	text := fmt.Sprintf("%s: memory grows by at most %.0f MiB per side for each further transfer", many, limit)
	return goal{text, func(r results) (string, bool) {
		each := func(m metric) float64 { return (r.median(many, m) - r.median(one, m)) / (most - 1) }
		client, server := each(clientMemory), each(serverMemory)
		return fmt.Sprintf("client %.1f, server %.1f", client, server), max(client, server) <= limit
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
