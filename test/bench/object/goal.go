package object

import (
	"fmt"
)

// grows wants either side to grow by no more MiB.
func grows(of string, limit float64) goal {
	text := fmt.Sprintf("%s: memory grows by at most %.0f MiB per side", of, limit)
	return goal{Text: text, Measure: func(r results) (string, bool) {
		client, server := r.Median(of, clientMemory), r.Median(of, serverMemory)
		return fmt.Sprintf("client %.1f, server %.1f", client, server), max(client, server) <= limit
	}}
}

// most is how many transfers at once are measured at most.
const most = 16

// growsPerMore wants either side to grow by no more MiB for each transfer of so many than for the
// one.
func growsPerMore(many, one string, limit float64) goal {
	text := fmt.Sprintf("%s: memory grows by at most %.0f MiB per side for each further transfer", many, limit)
	return goal{Text: text, Measure: func(r results) (string, bool) {
		each := func(m metric) float64 { return (r.Median(many, m) - r.Median(one, m)) / (most - 1) }
		client, server := each(clientMemory), each(serverMemory)
		return fmt.Sprintf("client %.1f, server %.1f", client, server), max(client, server) <= limit
	}}
}
