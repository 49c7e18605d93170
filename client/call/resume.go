package call

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// task is something that may take several attempts.
type task interface {
	attempt(ctx context.Context) error
	// progress is a number that grows with whatever the attempts achieve.
	progress() int64
	// resuming is told what ended an attempt, before there is another one.
	resuming(cause error)
}

// resume makes attempts until one succeeds, fails for good, or so many in a row have failed without progress that it
// looks hopeless. Refusals by a server that is busy do not count: it is well, and asks to come back. How often depends on
// how many others do, and how long that may take is for ctx to say.
func (c *Client) resume(ctx context.Context, what string, t task) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = c.options.RetryDelay, 5*time.Second
	tries, reached := 0, t.progress()
	for {
		err := t.attempt(ctx)
		if err == nil || ctx.Err() != nil || !resumable(err) {
			return err
		}
		if now := t.progress(); now > reached {
			tries, reached = 0, now
			delay.Reset()
		}
		if !busy(err) {
			tries++
		}
		if tries >= c.options.MaxTries {
			return fmt.Errorf("%w after %d tries without progress: %w", ErrGaveUp, tries, err)
		}
		wait := max(delay.NextBackOff(), retryDelay(err))
		c.options.Log.WarnContext(ctx, what+" interrupted, resuming", "error", err, "progress", reached, "try", tries, "wait", wait)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		t.resuming(err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// guard cuts an attempt that waits too long for its peer. It is armed only while the peer is waited for, so that a slow
// reader or writer on our own side is never taken for a dead server.
type guard struct {
	timer *time.Timer
	after time.Duration
}

// guarded makes the context of an attempt, the guard that may cut it, and the function that releases both.
func guarded(ctx context.Context, after time.Duration) (context.Context, *guard, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guard{after: after, timer: time.AfterFunc(after, func() { cancel(errStalled) })}
	return ctx, g, func() {
		g.timer.Stop()
		cancel(nil)
	}
}

func (g *guard) arm()    { g.timer.Reset(g.after) }
func (g *guard) disarm() { g.timer.Stop() }

// armFor waits longer than usual, for something that is known to take its time.
func (g *guard) armFor(d time.Duration) { g.timer.Reset(max(d, g.after)) }
