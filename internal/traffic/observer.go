package traffic

import (
	"log/slog"
	"time"
)

// observer counts one kind of operation, and logs the beginning and the end of its outages.
type observer struct {
	method  string
	log     *slog.Logger
	metrics methodMetrics
	source  Source
	// failed is how many operations in a row have failed.
	failed int
}

func (t *Traffic) observer(source Source, operation Operation) *observer {
	return &observer{
		method:  string(source.Service.FullName()) + "/" + operation.Method,
		log:     t.options.Log,
		metrics: t.metrics.of(source.Service, operation.Method),
		source:  source,
	}
}

func (o *observer) observe(took time.Duration, err error) {
	o.metrics.seconds.Observe(took.Seconds())
	if err == nil {
		o.metrics.good.Inc()
		if o.failed > 0 {
			o.log.Info("traffic: working again", "method", o.method, "failed", o.failed)
			o.failed = 0
		}
		return
	}
	o.metrics.bad.Inc()
	o.failed++
	switch {
	case o.source.Wrong(err):
		o.log.Error("traffic: wrong", "method", o.method, "error", err)
	case o.failed == 1:
		o.log.Warn("traffic: failing", "method", o.method, "error", err)
	}
}
