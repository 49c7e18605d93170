package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/internal/rpc"
)

var errUnavailable = status.Error(codes.Unavailable, "away")

func TestAttemptsEnd(t *testing.T) {
	busy, err := status.New(codes.ResourceExhausted,
		"full").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	errMine := errors.New("mine")
	for name, test := range map[string]struct {
		attempt func(n int, a *rpc.Attempt) error
		want    error
		tries   int
	}{
		"with success": {func(int, *rpc.Attempt) error { return nil }, nil, 1},
		"with an error that stays": {func(int, *rpc.Attempt) error { return errMine }, errMine,
			1},
		"with an error of the caller": {func(int,
			*rpc.Attempt) error {
			return fmt.Errorf("write: %w", rpc.Final(errUnavailable))
		}, errUnavailable, 1},
		"with a refusal that stays": {func(int,
			*rpc.Attempt) error {
			return status.Error(codes.NotFound, "")
		}, status.Error(codes.NotFound, ""), 1},
		"after too many without progress": {func(int, *rpc.Attempt) error { return errUnavailable },
			rpc.ErrGaveUp, 3},
		"later where there is progress": {func(n int,
			a *rpc.Attempt) error {
			return progressUntil(5, n, a)
		}, rpc.ErrGaveUp, 7},
		"after any number at a busy server": {func(n int,
			_ *rpc.Attempt) error {
			return unless(n == 20, busy.Err())
		}, nil, 20},
		"after a stream that ended early": {func(n int,
			_ *rpc.Attempt) error {
			return unless(n == 2, rpc.ErrEnded)
		}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := rpc.Resumption{MaxTries: 3}.Resume(t.Context(), "test",
					func(_ context.Context, a *rpc.Attempt) error {
						tries++
						return test.attempt(tries, a)
					})
				if !errors.Is(err, test.want) || tries != test.tries {
					t.Errorf("got %v after %d tries, want %v after %d", err, tries, test.want, test.tries)
				}
			})
		})
	}
}

func unless(done bool, err error) error {
	if done {
		return nil
	}
	return err
}

func progressUntil(last, n int, a *rpc.Attempt) error {
	if n <= last {
		a.Progress()
	}
	return errUnavailable
}

func TestAnAttemptIsCutOnlyWhileItsServerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var causes []error
		r := rpc.Resumption{StallTimeout: time.Second, MaxTries: 2,
			OnResume: func(err error) { causes = append(causes, err) }}
		err := r.Resume(t.Context(), "test", func(ctx context.Context, a *rpc.Attempt) error {
			a.Ready()
			if err := rpc.Sleep(ctx, time.Hour); err != nil {
				t.Errorf("cut while the server was ready: %v", err)
			}
			a.WaitLonger(time.Minute)
			if err := rpc.Sleep(ctx, 60*time.Second); err != nil {
				t.Errorf("cut too early: %v", err)
			}
			a.Wait()
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		})
		if !errors.Is(err, rpc.ErrStalled) || !errors.Is(err, rpc.ErrGaveUp) || len(causes) != 1 ||
			!errors.Is(causes[0], rpc.ErrStalled) {
			t.Errorf("got %v, resumed after %v", err, causes)
		}
	})
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := rpc.Resumption{RetryDelay: time.Hour}.Resume(ctx, "test",
			func(context.Context, *rpc.Attempt) error {
				time.AfterFunc(time.Millisecond, cancel)
				return errUnavailable
			})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// A caller that gives up is told so, also if the attempt had been cut in the same moment.
func TestAStreamThatIsGivenUpWhileItIsCutEndsWithTheCallersReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := rpc.Resumption{StallTimeout: time.Second}.Resume(ctx, "test",
			func(ctx context.Context, a *rpc.Attempt) error {
				a.Wait()
				<-ctx.Done()
				cancel()
				return status.FromContextError(ctx.Err()).Err()
			})
		if status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
	})
}

// gaveUp is done as soon as it has been asked whether it is.
type gaveUp struct {
	context.Context
	cancel func()
}

func (c gaveUp) Err() error {
	defer c.cancel()
	return c.Context.Err()
}

func TestACallerThatGivesUpDuringAStallGetsItsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := rpc.Resumption{StallTimeout: time.Second}.Resume(gaveUp{ctx, cancel}, "test",
			func(ctx context.Context, _ *rpc.Attempt) error {
				<-ctx.Done()
				return ctx.Err()
			})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
