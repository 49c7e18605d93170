package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// budget is more than the steps of most tests take, and stopping what is kept of it for the parts.
const (
	budget   = time.Hour
	stopping = 2 * time.Second
)

var errBroken = errors.New("broken")

// diary collects what happened, and when, in the order it happened. The parts
// of a drain run one after the other, so it needs no lock.
type diary struct {
	start   time.Time
	entries []string
	// failed are the steps of the drain that failed.
	failed []string
}

// ignore is for tests that do not look at which steps failed.
func ignore(string) {}

func (d *diary) note(what string) {
	d.entries = append(d.entries, time.Since(d.start).String()+" "+what)
}

func (d *diary) step(name string, timeout, takes time.Duration, err error) step {
	return step{name, timeout, func(ctx context.Context) error {
		d.note(name)
		select {
		case <-time.After(takes):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// until is a service that runs until it is stopped.
func (d *diary) until(name string) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name + " stopped")
		return ctx.Err()
	}}
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(d.entries, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(d.entries, "\n"), strings.Join(want, "\n"))
	}
}

// run lets a process run for a minute before its signal.
func (d *diary) run(t *testing.T, parts []part, drain []step) (string, error) {
	t.Helper()
	d.start = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log strings.Builder
	failed := func(step string) { d.failed = append(d.failed, step) }
	err := run(ctx, slog.New(slog.NewTextHandler(&log, nil)), parts, budget, stopping, drain, failed)
	return log.String(), err
}

func TestSignalDrainsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		log, err := d.run(t, []part{d.until("grpc")}, []step{
			d.step("not ready", time.Second, 0, nil),
			d.step("wait", 10*time.Second, 5*time.Second, nil),
			d.step("stop", 30*time.Second, 20*time.Second, nil),
		})
		if err != nil {
			t.Errorf("a clean drain returned %v", err)
		}
		d.expect(t, "1m0s not ready", "1m0s wait", "1m5s stop", "1m25s grpc stopped")
		if !strings.Contains(log, "step=stop took=20s") {
			t.Errorf("the log does not say how long steps took: %s", log)
		}
	})
}

func TestStepsHaveTheirOwnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		_, err := d.run(t, nil, []step{
			d.step("hangs", 10*time.Second, time.Hour, nil),
			d.step("fails", 10*time.Second, time.Second, errBroken),
			d.step("flush", 10*time.Second, 3*time.Second, nil),
		})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errBroken) ||
			!strings.Contains(err.Error(), "hangs") {
			t.Errorf("got %v", err)
		}
		d.expect(t, "1m0s hangs", "1m10s fails", "1m11s flush")
		if !slices.Equal(d.failed, []string{"hangs", "fails"}) {
			t.Errorf("the failed steps are %q", d.failed)
		}
	})
}

func TestStepThatIgnoresItsDeadlineIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		deaf := step{"deaf", time.Second, func(context.Context) error {
			time.Sleep(time.Hour)
			return nil
		}}
		_, err := d.run(t, nil, []step{deaf, d.step("flush", time.Second, 0, nil)})
		if err == nil || !strings.Contains(err.Error(), "deaf") {
			t.Errorf("got %v", err)
		}
		d.expect(t, "1m1.5s flush")
		if !slices.Equal(d.failed, []string{"deaf"}) {
			t.Errorf("the failed steps are %q", d.failed)
		}
		time.Sleep(time.Hour) // the step ends inside the bubble
	})
}

func TestFirstServiceToEndEndsAll(t *testing.T) {
	for name, failure := range map[string]error{"failure": errBroken, "success": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				short := part{"short", func(context.Context) error {
					time.Sleep(time.Second)
					return failure
				}}
				_, err := d.run(t, []part{d.until("grpc"), short}, []step{d.step("flush", time.Second, 0, nil)})
				if !errors.Is(err, failure) {
					t.Errorf("got %v, want %v", err, failure)
				}
				d.expect(t, "1s flush", "1s grpc stopped")
			})
		})
	}
}

func TestServiceThatFailsWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		_, err := d.run(t, []part{{"store", func(ctx context.Context) error {
			<-ctx.Done()
			return errBroken
		}}}, nil)
		if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "store") {
			t.Errorf("got %v", err)
		}
	})
}

func TestServiceThatDoesNotStopIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		_, err := d.run(t, []part{{"deaf", func(context.Context) error {
			time.Sleep(time.Hour)
			return nil
		}}}, nil)
		if err == nil || !strings.Contains(err.Error(), "deaf") {
			t.Errorf("got %v", err)
		}
		if got := time.Since(d.start); got != time.Minute+stopping {
			t.Errorf("waited until %s", got)
		}
		time.Sleep(time.Hour) // the service ends inside the bubble
	})
}

// TestDrainKeepsTheValuesOfItsContext lets steps log with the process's trace.
func TestDrainKeepsTheValuesOfItsContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	err := run(
		ctx,
		slog.New(slog.DiscardHandler),
		nil,
		budget,
		stopping,
		[]step{{"look", time.Second, func(ctx context.Context) error {
			if ctx.Value(key{}) != "value" || ctx.Err() != nil {
				return errBroken
			}
			return nil
		}}},
		ignore,
	)
	if err != nil {
		t.Error(err)
	}
}

func TestStepsTogetherTakeNoMoreThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := diary{start: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := run(ctx, slog.New(slog.DiscardHandler), nil, 15*time.Second+stopping, stopping, []step{
			d.step("slow", 10*time.Second, 9*time.Second, nil),
			d.step("slow too", 10*time.Second, 9*time.Second, nil),
			d.step("without time", 10*time.Second, 0, nil),
		}, ignore)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(d.start) != 15*time.Second {
			t.Errorf("got %v after %s", err, time.Since(d.start))
		}
	})
}
