// Package workload is steady traffic in the four modes with a verdict: it knows what every answer has to be, and counts
// the good and the bad. Dashboards and alerts live on its numbers before there are users, and a rollout that loses a
// message or a byte shows.
package workload

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/quartet/client/call"
)

// cleanUpTime bounds what is done for tidiness after the last operation.
const cleanUpTime = 5 * time.Second

// Workload is one process's traffic. Run it once.
type Workload struct {
	caller   *call.Client
	config   Config
	log      *slog.Logger
	counters map[string]counters
	instance string

	// known is the object that is looked up and downloaded; one restore at a time puts it there.
	known   content
	restore sync.Mutex
	uploads uint64

	// life is the context of operations. It outlives that of Run, so that what is under way may end.
	life context.Context
	cut  context.CancelFunc
}

// New makes a workload. The instance is part of the names of its objects and of its channel, and has to be unique among
// the workloads that call the same servers.
func New(caller *call.Client, cfg Config, registry prometheus.Registerer, log *slog.Logger, instance string) *Workload {
	life, cut := context.WithCancel(context.Background())
	return &Workload{
		caller:   caller,
		config:   cfg,
		log:      log,
		counters: newCounters(registry),
		instance: instance,
		known:    newContent(0, int64(cfg.ObjectBytes)),
		life:     life,
		cut:      cut,
	}
}

// Setup uploads what Run looks up and downloads.
func (w *Workload) Setup(ctx context.Context) error {
	if w.config.Lookups == 0 && w.config.Downloads == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.config.Timeout)
	defer cancel()
	return w.upload(ctx, w.knownName(), w.known)
}

// Run makes traffic until ctx is done, lets the operations under way end, and removes what the workload has stored, as
// far as the server lets it.
func (w *Workload) Run(ctx context.Context) error {
	defer w.cut()
	speaker := newSpeaker(w)
	var modes sync.WaitGroup
	modes.Go(func() { w.repeat(ctx, w.config.Lookups, unary, w.lookUp) })
	modes.Go(func() { w.repeat(ctx, w.config.Downloads, serverStream, w.download) })
	modes.Go(func() { w.repeat(ctx, w.config.Uploads, clientStream, w.uploadNext) })
	modes.Go(func() { w.repeat(ctx, w.config.Messages, bidi, speaker.say) })
	modes.Wait()
	<-ctx.Done()

	tidy, cancel := context.WithTimeout(w.life, cleanUpTime)
	defer cancel()
	speaker.leave(tidy)
	w.removeObjects(tidy)
	return nil
}

// Cut ends the operations under way at once. They are not counted, since it is nobody's fault that they fail.
func (w *Workload) Cut() { w.cut() }

// repeat starts an operation at each tick. A tick that comes while one is under way waits, and further ones are
// skipped: a server that is slow must not be met by a backlog when it recovers.
func (w *Workload) repeat(ctx context.Context, rate float64, mode string, operation func(context.Context) error) {
	if rate == 0 {
		return
	}
	judge := &judge{workload: w, mode: mode, counters: w.counters[mode]}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if ctx.Err() == nil {
			judge.try(operation)
		}
	}
}
