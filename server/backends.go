package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/quartet/internal/lifecycle"
)

const (
	// askInterval is how often the backends are asked whether they are there. Each time costs one small request.
	askInterval = 5 * time.Second
	// askTimeout is how long they may take to answer.
	askTimeout = 3 * time.Second
)

// backend is something that the server cannot do its work without.
type backend struct {
	name  string
	ask   func(context.Context) error
	log   *slog.Logger
	gauge prometheus.Gauge
	up    bool
}

// newBackends takes it that both have just answered, for without that the server does not start.
func (s *server) newBackends() []*backend {
	gauges := promauto.With(s.telemetry.Registry).NewGaugeVec(prometheus.GaugeOpts{
		Name: "quartet_backend_up", Help: "Whether the backend answered when it was last asked.",
	}, []string{"backend"})
	backends := []*backend{
		{name: "objects", ask: s.store.Ping},
		{name: "channels", ask: s.broker.Check},
	}
	for _, b := range backends {
		b.log, b.gauge, b.up = s.telemetry.Log, gauges.WithLabelValues(b.name), true
		b.gauge.Set(1)
	}
	return backends
}

func (s *server) watchBackends(ctx context.Context, interval time.Duration) error {
	watchUntil(ctx, s.draining, s.newBackends(), interval)
	return nil
}

// watchUntil asks until the server drains, which closes the backends.
func watchUntil(ctx context.Context, draining <-chan struct{}, backends []*backend, interval time.Duration) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	for _, b := range backends {
		watching.Go(func() { b.watch(asking, interval) })
	}
	select {
	case <-draining:
	case <-ctx.Done():
	}
	stop()
	watching.Wait()
	<-ctx.Done() // A service that returned earlier would end the process.
}

func (b *backend) watch(ctx context.Context, interval time.Duration) {
	for ctx.Err() == nil {
		b.look(ctx)
		lifecycle.Sleep(ctx, interval)
	}
}

// look asks once. A disk that hangs listens to no context: it counts as down in time, and is not asked again before it
// has answered.
func (b *backend) look(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var err error
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		err = b.ask(limited)
	}()
	select {
	case <-answered:
		b.tell(ctx, err)
		return
	case <-limited.Done():
		b.tell(ctx, limited.Err())
	}
	select {
	case <-answered:
	case <-ctx.Done():
	}
}

// tell notes an answer, and logs that it is another one than before. The end of the watch is no answer.
func (b *backend) tell(ctx context.Context, err error) {
	up := err == nil
	if ctx.Err() != nil || up == b.up {
		return
	}
	b.up = up
	if up {
		b.gauge.Set(1)
		b.log.InfoContext(ctx, "backend is up again", "backend", b.name)
		return
	}
	b.gauge.Set(0)
	b.log.WarnContext(ctx, "backend is down", "backend", b.name, "error", err)
}
