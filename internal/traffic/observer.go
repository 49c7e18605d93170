package traffic

import (
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
)

// observer counts one kind of operation, and logs the beginning and the end of its outages.
type observer struct {
	method  string
	log     *slog.Logger
	metrics methodMetrics
	isWrong func(error) bool
	// failed is how many operations in a row have failed.
	failed int
}

func (t *Traffic) observer(source Source, operation Operation) *observer {
	return &observer{
		method:  string(source.Service.FullName()) + "/" + operation.Method,
		log:     t.options.Log,
		metrics: t.metrics.of(source.Service, operation.Method),
		isWrong: source.IsWrong,
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
	case o.wrong(err):
		o.log.Error("traffic: wrong", "method", o.method, "error", err)
	case o.failed == 1:
		o.log.Warn("traffic: failing", "method", o.method, "error", err)
	}
}

// wrong tells an answer that must never be given from one that is missing or late.
func (o *observer) wrong(err error) bool {
	return errors.Is(err, ErrWrong) || errors.Is(err, rpc.ErrProtocol) || status.Code(err) == codes.DataLoss ||
		o.isWrong != nil && o.isWrong(err)
}
