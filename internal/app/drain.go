package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// step is one step of a drain. Which steps there are is in Process.drain of process.go, and how
// long each may take in DrainConfig of config.go. do must return when its context is done; a step
// that does not is abandoned, so that the following steps are still taken.
type step struct {
	// name is how the log and the error call the step.
	name string
	// timeout is its part of the budget.
	timeout time.Duration
	do      func(ctx context.Context) error
}

// takeSteps takes all steps in order, also after one that failed: traces are worth exporting even
// when a stream did not end in time. It calls failed at once for each that did.
func takeSteps(
	ctx context.Context,
	log *slog.Logger,
	steps []step,
	failed func(step string),
) error {
	var failures []error
	for _, s := range steps {
		start := time.Now()
		err := s.take(ctx)
		took := slog.Duration("took", time.Since(start))
		if err != nil {
			failed(s.name)
			log.Error("drain step", "step", s.name, took, "error", err)
			failures = append(failures, fmt.Errorf("drain step %s: %w", s.name, err))
			continue
		}
		log.Info("drain step", "step", s.name, took)
	}
	return errors.Join(failures...)
}

// lateness is how long a step may take to return after its deadline before it counts as one that
// ignores it.
const lateness = 500 * time.Millisecond

// take gives the step a new context, since that of the process is already done, and a deadline of
// its own, so that no step takes the time of another.
func (s step) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// done has room for the result of a step that returns after it was abandoned.
	done := make(chan error, 1)
	go func() { done <- s.do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Its deadline has passed: a step that heeds it returns within moments, with the error to report.
	late := time.NewTimer(lateness)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		// The goroutine goes on, but the process exits when the other steps are done.
		return fmt.Errorf("ignored its deadline of %s", s.timeout)
	}
}
