package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// drain holds the metrics of the end of the process.
type drain struct {
	// limit is the time that a drain may take, in seconds.
	limit prometheus.Gauge
	// failed is 1 for each step that failed.
	failed *prometheus.GaugeVec
	// began is when the drain began, nil before.
	began atomic.Pointer[time.Time]
}

// newDrain registers the metrics, so that they are there, as 0, from the start.
func newDrain(registry prometheus.Registerer) *drain {
	d := &drain{
		limit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drain_limit_seconds",
			Help: "How long the steps of a drain may take together.",
		}),
		failed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "drain_step_failed",
			Help: "1 if the step of the drain failed, or ignored its deadline.",
		}, []string{"step"}),
	}
	// They are read at each scrape, so that nothing has to update them.
	registry.MustRegister(
		d.limit,
		d.failed,
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "draining", Help: "1 while the process drains."},
			d.active,
		),
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "drain_seconds", Help: "How long the drain lasts already, 0 before."},
			d.seconds,
		),
	)
	return d
}

// active is 1 from the begin of the drain on.
func (d *drain) active() float64 {
	if d.began.Load() == nil {
		return 0
	}
	return 1
}

// seconds is the age of the drain, by which an alert finds one that takes too long.
func (d *drain) seconds() float64 {
	began := d.began.Load()
	if began == nil {
		return 0
	}
	return time.Since(*began).Seconds()
}

// SetDrain says how long a drain may take, and which steps it has.
func (t *Telemetry) SetDrain(limit time.Duration, steps ...string) {
	t.drain.limit.Set(limit.Seconds())
	// Each is there, as 0, from the start.
	for _, step := range steps {
		t.drain.failed.WithLabelValues(step)
	}
}

// FailDrain says that a step of the drain failed.
func (t *Telemetry) FailDrain(step string) { t.drain.failed.WithLabelValues(step).Set(1) }

// BeginDrain says that the process drains from now on.
// It may be called again; the first time counts.
func (t *Telemetry) BeginDrain() { t.drain.began.CompareAndSwap(nil, new(time.Now())) }
