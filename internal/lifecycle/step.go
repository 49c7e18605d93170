package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Step is one step of a drain. Do must return when its context is done; one
// that does not is left behind, so that the steps after it are still taken.
type Step struct {
	Name    string
	Timeout time.Duration
	Do      func(ctx context.Context) error
}

// Limit is how long the steps may take together.
func Limit(steps []Step) time.Duration {
	var limit time.Duration
	for _, step := range steps {
		limit += step.Timeout
	}
	return limit
}

// takeSteps takes all steps in order, also after one that failed: traces are
// worth flushing even when a stream did not end in time.
func takeSteps(ctx context.Context, log *slog.Logger, steps []Step) error {
	var failures []error
	for _, step := range steps {
		start := time.Now()
		err := step.take(ctx)
		took := slog.Duration("took", time.Since(start))
		if err != nil {
			log.Error("drain step", "step", step.Name, took, "error", err)
			failures = append(failures, fmt.Errorf("drain step %s: %w", step.Name, err))
			continue
		}
		log.Info("drain step", "step", step.Name, took)
	}
	return errors.Join(failures...)
}

// take gives the step a fresh context, since the one that ended the process is
// already done, and its own deadline, so that none eats another's time.
func (s Step) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fmt.Errorf("ignored its deadline of %s", s.Timeout)
	}
}

// Sleep pauses, and returns early if ctx is done.
func Sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
