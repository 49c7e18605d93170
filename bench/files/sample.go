package files

import (
	"time"

	"example.com/quartet/bench/measure"
)

// Sample is what one contestant did in one round.
type Sample struct {
	Bytes          int64 // of all transfers together
	Took           time.Duration
	Client, Server Side
}

// results are the samples of every contestant of a table, in the order of the rounds.
type results map[string][]Sample

// metric is a number that a sample has.
type metric struct {
	name string
	of   func(Sample) float64
}

const (
	mebi = 1 << 20
	gibi = 1 << 30
)

var (
	rate         = metric{"rate", func(s Sample) float64 { return float64(s.Bytes) / s.Took.Seconds() }}
	clientCPU    = metric{"client's CPU", func(s Sample) float64 { return s.perGiB(s.Client.CPU) }}
	serverCPU    = metric{"server's CPU", func(s Sample) float64 { return s.perGiB(s.Server.CPU) }}
	cpu          = metric{"CPU per GiB", func(s Sample) float64 { return s.perGiB(s.Client.CPU + s.Server.CPU) }}
	clientMemory = metric{"client's memory", func(s Sample) float64 { return float64(s.Client.Grown) / mebi }}
	serverMemory = metric{"server's memory", func(s Sample) float64 { return float64(s.Server.Grown) / mebi }}
)

func (s Sample) perGiB(used time.Duration) float64 { return used.Seconds() * gibi / float64(s.Bytes) }

// series is a metric of a contestant, round by round.
func (r results) series(contestant string, m metric) []float64 {
	var values []float64
	for _, sample := range r[contestant] {
		values = append(values, m.of(sample))
	}
	return values
}

func (r results) median(contestant string, m metric) float64 {
	return measure.Median(r.series(contestant, m))
}

// ratios are what a contestant has of another's metric, round by round.
func (r results) ratios(of, to string, m metric) []float64 {
	return measure.Ratios(r.series(of, m), r.series(to, m))
}
