package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// drain holds the metrics of the end of the process.
type drain struct {
	limit prometheus.Gauge
	began atomic.Pointer[time.Time]
}

func newDrain(registry prometheus.Registerer) *drain {
	d := &drain{limit: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "drain_limit_seconds",
		Help: "How long the steps of a drain may take together.",
	})}
	registry.MustRegister(
		d.limit,
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

func (d *drain) active() float64 {
	if d.began.Load() == nil {
		return 0
	}
	return 1
}

func (d *drain) seconds() float64 {
	began := d.began.Load()
	if began == nil {
		return 0
	}
	return time.Since(*began).Seconds()
}

// SetDrainLimit says how long a drain may take.
func (t *Telemetry) SetDrainLimit(limit time.Duration) { t.drain.limit.Set(limit.Seconds()) }

// BeginDrain says that the process drains from now on.
func (t *Telemetry) BeginDrain() { t.drain.began.CompareAndSwap(nil, new(time.Now())) }
