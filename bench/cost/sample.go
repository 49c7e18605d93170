package cost

import (
	"time"

	"example.com/quartet/bench/measure"
)

// Sample is what one variant did in one slice, and what both sides used for it.
type Sample struct {
	Result
	Server measure.Usage
}

// each is the part of a total that falls to each of what was done.
func (s Sample) each(total float64) float64 { return total / float64(s.Done) }

// results are the samples of every variant under one load, in the order of the rounds.
type results map[string][]Sample

// metric is a number that a sample has.
type metric struct {
	name string
	of   func(Sample) float64
}

var (
	rate         = metric{"rate", func(s Sample) float64 { return float64(s.Done) / s.Took.Seconds() }}
	p50          = metric{"p50", func(s Sample) float64 { return micros(s.P50) }}
	p99          = metric{"p99", func(s Sample) float64 { return micros(s.P99) }}
	clientAllocs = metric{"client's allocations", func(s Sample) float64 { return s.each(float64(s.Used.Mallocs)) }}
	serverAllocs = metric{"server's allocations", func(s Sample) float64 { return s.each(float64(s.Server.Mallocs)) }}
	clientCPU    = metric{"client's CPU", func(s Sample) float64 { return s.each(micros(s.Used.CPU)) }}
	serverCPU    = metric{"server's CPU", func(s Sample) float64 { return s.each(micros(s.Server.CPU)) }}
	allocs       = metric{"allocations", func(s Sample) float64 { return clientAllocs.of(s) + serverAllocs.of(s) }}
	cpu          = metric{"CPU", func(s Sample) float64 { return clientCPU.of(s) + serverCPU.of(s) }}
)

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// series is a metric of a variant, round by round.
func (r results) series(variant string, m metric) []float64 {
	var values []float64
	for _, sample := range r[variant] {
		values = append(values, m.of(sample))
	}
	return values
}

func (r results) median(variant string, m metric) float64 {
	return measure.Median(r.series(variant, m))
}

// ratios are what a variant has of another's metric, round by round.
func (r results) ratios(of, to string, m metric) []float64 {
	return measure.Ratios(r.series(of, m), r.series(to, m))
}
