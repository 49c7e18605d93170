// Package lifecycle starts the long-running parts of a process and ends them
// in order. It decides when a process is over, not how: exit codes and signals
// belong to main.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// grace is how long something that was told to stop is still waited for. Both
// a step beyond its deadline and a service beyond the drain get it once.
const grace = 2 * time.Second

// Service is a part of the process that runs until its context is done. The
// first one to return ends the whole process, with or without an error: a
// process that lost a part must not look alive.
type Service struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run starts the services, waits until ctx is done (main's signal) or a service
// returns, takes the drain steps while the services still run, and then stops
// the services by cancelling their context.
//
// It returns nil if nothing failed, so that a process ended by SIGTERM exits
// with 0, and all failures otherwise. A service that returns context.Canceled
// after it was stopped did not fail.
func Run(ctx context.Context, log *slog.Logger, services []Service, drain []Step) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group := start(running, log, services)

	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping", "cause", context.Cause(ctx))
	case end := <-group.ends:
		failure = group.ended(end)
		log.Warn("stopping", "service", end.name, "error", end.err)
	}
	drained := takeSteps(context.WithoutCancel(ctx), log, drain)
	stop()
	return errors.Join(failure, drained, group.wait())
}

// end is how a service came to its end.
type end struct {
	name string
	err  error
}

// group is the services that still run.
type group struct {
	ends    chan end
	running map[string]int
}

func start(ctx context.Context, log *slog.Logger, services []Service) *group {
	g := &group{ends: make(chan end, len(services)), running: map[string]int{}}
	for _, service := range services {
		g.running[service.Name]++
		log.Debug("starting", "service", service.Name)
		go func() { g.ends <- end{service.Name, service.Run(ctx)} }()
	}
	return g
}

// ended takes a service off the list and returns its failure.
func (g *group) ended(e end) error {
	if g.running[e.name]--; g.running[e.name] == 0 {
		delete(g.running, e.name)
	}
	if e.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", e.name, e.err)
}

// wait collects the services that were told to stop. One that does not stop
// is reported and left behind: a process that hangs is killed by Kubernetes,
// and then nobody learns which part it was.
func (g *group) wait() error {
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	var failures []error
	for len(g.running) > 0 {
		select {
		case e := <-g.ends:
			if err := g.ended(e); !errors.Is(err, context.Canceled) {
				failures = append(failures, err)
			}
		case <-timeout.C:
			for name := range g.running {
				failures = append(failures, fmt.Errorf("%s: still running %s after it was told to stop", name, grace))
			}
			return errors.Join(failures...)
		}
	}
	return errors.Join(failures...)
}
