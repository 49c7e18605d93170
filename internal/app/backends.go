package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/quartet/internal/rpc"
)

const (
	// checkInterval is how often the backends are asked whether they are there. Each time costs one
	// small request.
	checkInterval = 5 * time.Second
	// checkTimeout is how long they may take to answer.
	checkTimeout = 3 * time.Second
)

// backend is what a service depends on, such as a database or a broker.
type backend struct {
	name string
	// check is Check of the service. It may ignore its context, for example while a disk hangs.
	check func(context.Context) error
	log   *slog.Logger
	// serving tells the clients of the service by its health.
	serving func(bool)
	// gauge is backend_up of this backend, and up what it shows. Only the goroutine of watch uses up.
	gauge prometheus.Gauge
	up    bool
}

// newBackends lists the backends of the services as being up: open has just checked them, or the
// process would not have started.
func (o *Running) newBackends() (backends []*backend) {
	gauges := promauto.With(o.telemetry.Metrics).NewGaugeVec(prometheus.GaugeOpts{
		Name: "backend_up", Help: "Whether the backend answered when it was last asked.",
	}, []string{"backend"})
	for _, one := range o.opened {
		if one.Check != nil {
			b := &backend{
				name:  one.name,
				check: one.Check,
				log:   o.telemetry.Log,
				serving: func(up bool) {
					for _, service := range one.Names() {
						o.rpc.Health().SetServiceServing(service, up)
					}
				},
				gauge: gauges.WithLabelValues(one.name),
				up:    true,
			}
			b.gauge.Set(1)
			backends = append(backends, b)
		}
	}
	return backends
}

// watchBackends asks every interval until ctx is done, which is when the drain begins to close
// streams and before it closes the backends. Each backend has a goroutine of its own, so that one
// that hangs does not delay the answers of the others.
func watchBackends(ctx context.Context, backends []*backend, interval time.Duration) {
	var watching sync.WaitGroup
	for _, b := range backends {
		watching.Go(func() { b.watch(ctx, interval) })
	}
	watching.Wait()
}

// watch checks the backend again and again, an interval after each answer.
func (b *backend) watch(ctx context.Context, interval time.Duration) {
	for ctx.Err() == nil {
		b.look(ctx)
		_ = rpc.Sleep(ctx, interval) // The loop asks ctx itself.
	}
}

// look checks the backend once. A disk that hangs ignores the context: the backend counts as down
// after checkTimeout, and is not checked again before it has answered.
func (b *backend) look(ctx context.Context) {
	answered, err := ask(ctx, b.check)
	b.tell(ctx, err)
	// Without this wait each interval would leave one more goroutine at a disk that hangs.
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// ask checks a backend in a goroutine, and returns soon after checkTimeout even if the check
// ignores its context. answered is closed when the check has returned.
func ask(
	ctx context.Context,
	check func(context.Context) error,
) (answered <-chan struct{}, err error) {
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	// answer has room for one value, so that a check that returns late does not block for ever.
	returned, answer := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(returned)
		answer <- check(limited)
	}()
	select {
	case err := <-answer:
		return returned, err
	case <-limited.Done():
	}
	// The check gets a little more time: one that heeds its context returns now, with a better error.
	select {
	case err := <-answer: // It knows more than the context.
		return returned, err
	case <-time.After(lateness):
		return returned, context.Cause(limited)
	}
}

// tell records an answer that differs from the one before, by the metric, the log and the health of
// the service. The readiness of the process stays: its other services work, and a restart would not
// bring the backend back. The end of the watch is no answer.
func (b *backend) tell(ctx context.Context, err error) {
	up := err == nil
	// A check that the drain has cancelled says nothing about the backend.
	if ctx.Err() != nil || up == b.up {
		return
	}
	b.up = up
	b.serving(up)
	if up {
		b.gauge.Set(1)
		b.log.InfoContext(ctx, "backend is up again", "backend", b.name)
		return
	}
	b.gauge.Set(0)
	// The log says it once for each outage; the gauge says it for as long as it lasts.
	b.log.WarnContext(ctx, "backend is down", "backend", b.name, "error", err)
}
