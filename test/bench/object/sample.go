package object

import (
	"time"

	"example.com/quartet/test/bench/measure"
)

// Sample is what one contestant did in one round.
type Sample struct {
	Bytes          int64 // of all transfers together
	Took           time.Duration
	Client, Server Side
}

// What is measured and wanted of these samples.
type (
	results = measure.Results[Sample]
	metric  = measure.Metric[Sample]
	goal    = measure.Goal[Sample]
)

const (
	mebi = 1 << 20
	gibi = 1 << 30
)

var (
	rate         = metric{Name: "rate", Of: func(s Sample) float64 { return float64(s.Bytes) / s.Took.Seconds() }}
	clientCPU    = metric{Name: "client's CPU", Of: func(s Sample) float64 { return s.perGiB(s.Client.CPU) }}
	serverCPU    = metric{Name: "server's CPU", Of: func(s Sample) float64 { return s.perGiB(s.Server.CPU) }}
	cpu          = metric{Name: "CPU per GiB", Of: func(s Sample) float64 { return s.perGiB(s.Client.CPU + s.Server.CPU) }}
	clientMemory = metric{Name: "client's memory", Of: func(s Sample) float64 { return float64(s.Client.Grown) / mebi }}
	serverMemory = metric{Name: "server's memory", Of: func(s Sample) float64 { return float64(s.Server.Grown) / mebi }}
)

func (s Sample) perGiB(used time.Duration) float64 {
	return used.Seconds() * gibi / float64(s.Bytes)
}
