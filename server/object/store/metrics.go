package store

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what a Store counts. All are there from the start: a counter that appears with its first event hides that
// one from rate().
type metrics struct {
	committedBytes, finished            prometheus.Counter
	expired, unreferenced               prometheus.Counter
	resumedUploads, resumedDownloads    prometheus.Counter
	badChunks, badObjects, corruptReads prometheus.Counter
	storedBytes, quotaBytes             prometheus.Gauge
}

// newMetrics registers nothing if registry is nil.
func newMetrics(registry prometheus.Registerer) *metrics {
	register := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return register.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return register.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	resumed := register.NewCounterVec(prometheus.CounterOpts{
		Name: "transfers_resumed_total", Help: "Calls that did not begin at the first byte.",
	}, []string{"direction"})
	failures := register.NewCounterVec(prometheus.CounterOpts{
		Name: "checksum_failures_total",
		Help: "Bytes that were not what they should be: of a chunk, of a whole upload, or of what the store returned.",
	}, []string{"subject"})
	return &metrics{
		committedBytes:   counter("object_committed_bytes_total", "Bytes of uploads that are safe in the store."),
		finished:         counter("objects_finished_total", "Uploads that became objects."),
		expired:          counter("uploads_expired_total", "Abandoned uploads that were removed."),
		unreferenced:     counter("parts_unreferenced_total", "Parts that nothing led to any more and that were removed."),
		storedBytes:      gauge("objects_stored_bytes", "Bytes of all parts, as the quota counts them."),
		quotaBytes:       gauge("objects_quota_bytes", "The most bytes that all parts may have; 0 is no limit."),
		resumedUploads:   resumed.WithLabelValues("upload"),
		resumedDownloads: resumed.WithLabelValues("download"),
		badChunks:        failures.WithLabelValues("chunk"),
		badObjects:       failures.WithLabelValues("object"),
		corruptReads:     failures.WithLabelValues("store"),
	}
}

// corrupt is the error for stored bytes that are not those that were written, and counts it.
func (s *Store) corrupt(format string, args ...any) error {
	s.metrics.corruptReads.Inc()
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
