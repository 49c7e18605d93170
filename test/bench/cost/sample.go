package cost

import (
	"time"

	"example.com/quartet/test/bench/measure"
)

// Sample is what one variant did in one slice, and what both sides used for it.
type Sample struct {
	Result
	Server measure.Usage
}

// each is the part of a total that falls to each of what was done.
func (s Sample) each(total float64) float64 { return total / float64(s.Done) }

// What is measured and wanted of these samples.
type (
	results = measure.Results[Sample]
	metric  = measure.Metric[Sample]
	goal    = measure.Goal[Sample]
)

var (
	rate         = metric{Name: "rate", Of: func(s Sample) float64 { return float64(s.Done) / s.Took.Seconds() }}
	p50          = metric{Name: "p50", Of: func(s Sample) float64 { return micros(s.P50) }}
	p99          = metric{Name: "p99", Of: func(s Sample) float64 { return micros(s.P99) }}
	clientAllocs = metric{Name: "client's allocations", Of: func(s Sample) float64 { return s.each(float64(s.Used.Mallocs)) }}
	serverAllocs = metric{Name: "server's allocations", Of: func(s Sample) float64 { return s.each(float64(s.Server.Mallocs)) }}
	clientCPU    = metric{Name: "client's CPU", Of: func(s Sample) float64 { return s.each(micros(s.Used.CPU)) }}
	serverCPU    = metric{Name: "server's CPU", Of: func(s Sample) float64 { return s.each(micros(s.Server.CPU)) }}
	allocs       = metric{Name: "allocations", Of: func(s Sample) float64 { return clientAllocs.Of(s) + serverAllocs.Of(s) }}
	cpu          = metric{Name: "CPU", Of: func(s Sample) float64 { return clientCPU.Of(s) + serverCPU.Of(s) }}
)

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
