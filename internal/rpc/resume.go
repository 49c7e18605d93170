package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Resumption is how a stream that breaks is continued. Calls of one answer need none: grpc-go
// repeats them by the retry policy that NewClient computes from the contract. It cannot do so with
// streams, because it does not know where one was cut. The zero value of a field stands for its
// default.
type Resumption struct {
	// StallTimeout cuts an attempt whose server is waited for and sends nothing. Default 30 s.
	StallTimeout time.Duration
	// MaxTries bounds the attempts in a row that bring nothing new. Default 10.
	MaxTries int
	// RetryDelay is the pause before the first of those attempts; it grows up to 5 s. Default 100 ms.
	RetryDelay time.Duration
	// Retriable tells of an error which is not UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, a server
	// that is busy, ErrStalled or ErrEnded whether another attempt may go better all the same.
	// Default: it may not.
	Retriable func(error) bool
	// OnResume is told what ended an attempt, before there is another one.
	OnResume func(cause error)
	// Log is told the same. Default: nothing is logged.
	Log *slog.Logger
}

func (r Resumption) withDefaults() Resumption {
	if r.StallTimeout == 0 {
		r.StallTimeout = 30 * time.Second
	}
	if r.MaxTries == 0 {
		r.MaxTries = 10
	}
	if r.RetryDelay == 0 {
		r.RetryDelay = 100 * time.Millisecond
	}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Attempt is one try of a stream that is resumed.
//
// Its context is cut when the server is waited for too long. Wait starts the clock anew, and Ready
// stops it, so that a slow reader or writer on our own side is never taken for a dead server. The
// clock runs when an attempt begins.
type Attempt struct {
	after    time.Duration
	timer    *time.Timer
	progress bool
}

// Wait says that from now on the server is waited for.
func (a *Attempt) Wait() { a.timer.Reset(a.after) }

// WaitLonger is Wait for something that takes the server longer than usual, by so much.
func (a *Attempt) WaitLonger(by time.Duration) { a.timer.Reset(a.after + by) }

// Ready says that the server is not waited for.
func (a *Attempt) Ready() { a.timer.Stop() }

// Progress says that the attempt has brought something new: what counts against MaxTries starts
// again from zero. Like the error, it is looked at when the attempt has returned.
func (a *Attempt) Progress() { a.progress = true }

// Resume makes attempts until one succeeds, fails for good, or MaxTries in a row have brought
// nothing new, which gives ErrGaveUp. Refusals by a server that is busy do not count: it works, and
// asks to come back. How often depends on how many others do, and only ctx bounds how long that may
// take. what names the stream in the log: "download".
func (r Resumption) Resume(
	ctx context.Context, what string, attempt func(context.Context, *Attempt) error,
) error {
	r = r.withDefaults()
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = r.RetryDelay, 5*time.Second
	tries := 0
	for {
		progress, err := r.try(ctx, attempt)
		if errors.Is(err, ErrStalled) && ctx.Err() != nil { // The caller has given up just then.
			return context.Cause(ctx)
		}
		if err == nil || ctx.Err() != nil || !r.mayRetry(err) {
			return err
		}
		if progress {
			tries = 0
			delay.Reset()
		}
		if !IsBusy(err) {
			tries++
		}
		if tries >= r.MaxTries {
			return fmt.Errorf("%w after %d tries without progress: %w", ErrGaveUp, tries, err)
		}
		wait := max(delay.NextBackOff(), RetryDelay(err))
		r.Log.WarnContext(ctx, what+" interrupted, resuming", "error", err, "try", tries, "wait", wait)
		if err := Sleep(ctx, wait); err != nil {
			return err
		}
		if r.OnResume != nil {
			r.OnResume(err)
		}
	}
}

// try makes one attempt. What it returns is the reason why the stream ended: our own, if its
// context was cut while the whole goes on.
func (r Resumption) try(
	whole context.Context, attempt func(context.Context, *Attempt) error,
) (progress bool, err error) {
	ctx, cancel := context.WithCancelCause(whole)
	defer cancel(nil)
	a := &Attempt{after: r.StallTimeout,
		timer: time.AfterFunc(r.StallTimeout, func() { cancel(ErrStalled) })}
	defer a.timer.Stop()
	err = attempt(ctx, a)
	if err != nil && !isFinal(err) && whole.Err() == nil && errors.Is(context.Cause(ctx), ErrStalled) {
		err = ErrStalled
	}
	return a.progress, err
}

// Final makes Resume end with err. It is for errors of the caller's own code, a callback or a
// writer for example, which may look like those of a server.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }

func isFinal(err error) bool {
	_, ok := errors.AsType[final](err)
	return ok
}

// mayRetry tells whether another attempt may go better. The context of the whole is known to be
// alive, so that a cancellation or a deadline was one of the attempt's.
func (r Resumption) mayRetry(err error) bool {
	if isFinal(err) {
		return false
	}
	if errors.Is(err, ErrStalled) || errors.Is(err, ErrEnded) ||
		r.Retriable != nil && r.Retriable(err) {
		return true
	}
	if _, answered := status.FromError(err); !answered {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return IsBusy(err)
	}
}

// Sleep pauses for d, or until ctx is done, and then returns its cause.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
