package workload

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The four modes of gRPC, as the label mode has them.
const (
	unary        = "unary"
	serverStream = "server_stream"
	clientStream = "client_stream"
	bidi         = "bidi"
)

// counters are the metrics of one mode. All are there from the start, since a counter that appears with its first
// bad operation hides that one from rate().
type counters struct {
	good, bad prometheus.Counter
	seconds   prometheus.Observer
}

func newCounters(registry prometheus.Registerer) map[string]counters {
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quartet_workload_operations_total",
		Help: "Operations of the workload whose answer was verified: good if it was right, bad if it was wrong, late or an error.",
	}, []string{"mode", "verdict"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "quartet_workload_operation_seconds",
		Help:                            "Time of an operation of the workload, with all its retries and resumes.",
		Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"mode"})
	registry.MustRegister(operations, seconds)
	modes := map[string]counters{}
	for _, mode := range []string{unary, serverStream, clientStream, bidi} {
		modes[mode] = counters{
			good:    operations.WithLabelValues(mode, "good"),
			bad:     operations.WithLabelValues(mode, "bad"),
			seconds: seconds.WithLabelValues(mode),
		}
	}
	return modes
}
