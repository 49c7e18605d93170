package object

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/quartet/server/object/engine"
)

// metrics are what happens to objects. All are there from the start: a counter that appears with
// its first event hides that one from rate().
type metrics struct {
	// committedBytes and finished are of uploads, expired those that housekeeping has removed.
	committedBytes, finished prometheus.Counter
	expired                  prometheus.Counter
	// Calls that did not begin at the first byte.
	resumedUploads, resumedDownloads prometheus.Counter
	// badChunks and badObjects are mistakes of senders, and corruptReads is damage in the store, on
	// which an alert pages.
	badChunks, badObjects, corruptReads prometheus.Counter
}

// newMetrics registers the metrics. The gauges ask the quota when they are scraped.
func newMetrics(registry prometheus.Registerer, quota *engine.Quota) *metrics {
	register := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return register.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int64) {
		register.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge("objects_stored_bytes", "Bytes that are stored, as the quota counts them.", quota.Held)
	gauge("objects_quota_bytes", "The most bytes that may be stored; 0 is no limit.",
		func() int64 { return quota.Limit })
	resumed := register.NewCounterVec(prometheus.CounterOpts{
		Name: "transfers_resumed_total", Help: "Calls that did not begin at the first byte.",
	}, []string{"direction"})
	failures := register.NewCounterVec(prometheus.CounterOpts{
		Name: "checksum_failures_total",
		Help: "Checksums that did not match: of a chunk, of a whole upload, or of what the store returned.",
	}, []string{"subject"})
	return &metrics{
		committedBytes:   counter("object_committed_bytes_total", "Bytes of uploads that are committed."),
		finished:         counter("objects_finished_total", "Uploads that became objects."),
		expired:          counter("uploads_expired_total", "Abandoned uploads that were removed."),
		resumedUploads:   resumed.WithLabelValues("upload"),
		resumedDownloads: resumed.WithLabelValues("download"),
		badChunks:        failures.WithLabelValues("chunk"),
		badObjects:       failures.WithLabelValues("object"),
		corruptReads:     failures.WithLabelValues("store"),
	}
}

// saw counts an error that is about wrong bytes, and returns it as it is. Handlers pass every error
// of an engine through it.
func (m *metrics) saw(err error) error {
	switch {
	case errors.Is(err, engine.ErrCorrupt):
		m.corruptReads.Inc()
	case errors.Is(err, engine.ErrChecksumMismatch):
		m.badObjects.Inc()
	}
	return err
}
