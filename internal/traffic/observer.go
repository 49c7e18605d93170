package traffic

import (
	"log/slog"
	"time"
)

// observer counts one kind of operation, and logs the beginning and the end of its outages. Only
// the goroutine that repeats the operation uses it.
type observer struct {
	method  string
	log     *slog.Logger
	metrics methodMetrics
	source  Source
	// failed is how many operations in a row have failed.
	failed int
}

// observer makes the observer of one operation of a source.
func (t *Traffic) observer(source Source, operation Operation) *observer {
	return &observer{
		method:  string(source.Service.FullName()) + "/" + operation.Method,
		log:     t.options.Log,
		metrics: t.metrics.of(source.Service, operation.Method),
		source:  source,
	}
}

// observe counts an operation, with the error of its Do. A failure is logged when it is the first
// in a row, so that an outage is two lines and not one per operation; a wrong answer always is.
func (o *observer) observe(took time.Duration, err error) {
	// Failed operations are timed as well: a late one is as late as it is.
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
	// A wrong answer is a fault of the servers whatever came before it, so that none is left out.
	case o.source.Wrong(err):
		o.log.Error("traffic: wrong", "method", o.method, "error", err)
	case o.failed == 1:
		o.log.Warn("traffic: failing", "method", o.method, "error", err)
	}
}
