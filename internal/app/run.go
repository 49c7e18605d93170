package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// part runs as long as the process and ends with its context. The first part to return ends the
// whole process, with or without an error: a process without one of its parts is not healthy.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// run starts the parts, waits until ctx is done (the signal) or a part returns, takes the steps of
// the drain while the parts still run, and then stops the parts by cancelling their context. All of
// it takes the budget at most, and stopping is what is kept of it for the parts. Of a step that
// failed it calls failed at once.
//
// It returns nil if nothing failed, so that a process ended by SIGTERM exits with 0, and all
// failures otherwise. A part that returns context.Canceled after it was stopped did not fail.
func run(
	ctx context.Context,
	log *slog.Logger,
	parts []part,
	budget, stopping time.Duration,
	drain []step,
	failed func(step string),
) error {
	// The parts outlive ctx: the signal begins the drain, and only the end of the drain stops them.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group := start(running, log, parts)

	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping", "cause", context.Cause(ctx))
	case end := <-group.ends:
		// The part may have ended without an error, which is a reason to stop all the same.
		failure = group.ended(end)
		log.Warn("stopping", "part", end.name, "error", end.err)
	}
	// ctx may be done, so that the steps get a context without its end, but with its values.
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget-stopping)
	drained := takeSteps(draining, log, drain, failed)
	cancel()
	// Now the parts return by themselves, and wait collects what they say.
	stop()
	return errors.Join(failure, drained, group.wait(stopping))
}

// end is the result of a part.
type end struct {
	name string
	err  error
}

// group is the parts that still run. Only the goroutine of run uses its map.
type group struct {
	// ends has room for all parts, so that a part that returns after the process gave up on it is not
	// blocked.
	ends chan end
	// running counts the parts by name.
	running map[string]int
}

// start runs each part in a goroutine, under a context that is done when the drain is over.
func start(ctx context.Context, log *slog.Logger, parts []part) *group {
	g := &group{ends: make(chan end, len(parts)), running: map[string]int{}}
	for _, p := range parts {
		g.running[p.name]++
		log.Debug("starting", "part", p.name)
		go func() { g.ends <- end{p.name, p.run(ctx)} }()
	}
	return g
}

// ended takes a part off the list and returns its failure.
func (g *group) ended(e end) error {
	if g.running[e.name]--; g.running[e.name] == 0 {
		delete(g.running, e.name)
	}
	if e.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", e.name, e.err)
}

// wait waits for the parts, whose context is done. A part that does not return is reported and
// abandoned: if the process hung, Kubernetes would kill it, and no log would name the part.
func (g *group) wait(stopping time.Duration) error {
	timeout := time.NewTimer(stopping)
	defer timeout.Stop()
	var failures []error
	for len(g.running) > 0 {
		select {
		case e := <-g.ends:
			// nil is no cancellation and lands in failures, where errors.Join leaves it out.
			if err := g.ended(e); !errors.Is(err, context.Canceled) {
				failures = append(failures, err)
			}
		case <-timeout.C:
			for name := range g.running {
				failures = append(
					failures,
					fmt.Errorf("%s: still running %s after it was told to stop", name, stopping),
				)
			}
			return errors.Join(failures...)
		}
	}
	return errors.Join(failures...)
}
