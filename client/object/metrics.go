package object

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/quartet/internal/telemetry"
)

// rateFloor is the size in bytes from which the rate of a transfer says something about the path
// and not about latency.
const rateFloor = 1 << 20

// metrics are what a Client counts. All are there from the start: a counter that appears with its
// first event hides that one from rate().
type metrics struct{ downloads, uploads *directionMetrics }

// directionMetrics are those of the transfers in one direction.
type directionMetrics struct {
	// name is the direction, and also the name of the span.
	name string
	// ok, failed and canceled are the ends of transfers; resumes are attempts after the first.
	ok, failed, canceled, resumes prometheus.Counter
	// rate is in bytes per second.
	rate prometheus.Observer
}

// newMetrics registers the metrics of one Client.
func newMetrics(registry prometheus.Registerer) *metrics {
	register := promauto.With(registry)
	ended := register.NewCounterVec(prometheus.CounterOpts{
		Name: "client_transfers_total",
		Help: "Whole transfers, over all their attempts, by how they ended.",
	}, []string{"direction", "result"})
	resumes := register.NewCounterVec(prometheus.CounterOpts{
		Name: "client_transfer_resumes_total", Help: "Attempts of transfers after the first.",
	}, []string{"direction"})
	rate := register.NewHistogramVec(telemetry.WithNative(prometheus.HistogramOpts{
		Name: "client_transfer_bytes_per_second",
		Help: "Rate of whole transfers of at least 1 MiB that ended well.",
		// 64 KiB/s to 4 GiB/s in powers of four, of which 1 MiB/s is one.
		Buckets: prometheus.ExponentialBuckets(64<<10, 4, 9),
	}), []string{"direction"})
	direction := func(name string) *directionMetrics {
		return &directionMetrics{
			name:     name,
			ok:       ended.WithLabelValues(name, "ok"),
			failed:   ended.WithLabelValues(name, "failed"),
			canceled: ended.WithLabelValues(name, "canceled"),
			resumes:  resumes.WithLabelValues(name),
			rate:     rate.WithLabelValues(name),
		}
	}
	return &metrics{direction("download"), direction("upload")}
}
