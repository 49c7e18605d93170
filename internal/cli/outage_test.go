package cli

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// broken is a transfer of which 850 of 913 MiB are safe when the server goes away, for 4 s and
// three attempts.
func broken(t *testing.T, c *command) string {
	t.Helper()
	var text strings.Builder
	c.stderr.to = &text
	c.outage.command = c
	c.config = &clientConfig{}
	synctest.Test(t, func(t *testing.T) {
		log := c.forPerson(
			telemetry.New(telemetry.Identity{Namespace: "test"}, telemetry.Config{}, c.stderr),
		).Log
		p := (&Terminal{command: c}).NewProgress("downloading", false)
		p.Update(850<<20, 850<<20, 913<<20, 0)
		attempts := 0
		err := rpc.Resumption{
			Log:        log,
			RetryDelay: time.Second,
			MaxTries:   math.MaxInt,
		}.Resume(
			t.Context(),
			"download",
			func(context.Context, *rpc.Attempt) error {
				if attempts++; attempts < 4 {
					return status.Error(codes.Unavailable, "connection refused")
				}
				p.Update(913<<20, 913<<20, 913<<20, 3)
				return nil
			},
		)
		if err != nil {
			t.Error(err)
		}
		p.End("downloaded")
	})
	return text.String()
}

func TestAnOutageIsToldInPlaceOfTheLog(t *testing.T) {
	lines := strings.Split(broken(t, &command{stderr: &screen{}}), "\n")
	if len(lines) != 5 ||
		lines[0] != "connection lost, 850.0 MiB of 913.0 MiB are safe, trying again" ||
		!strings.HasPrefix(lines[1], "going on after ") ||
		!strings.HasPrefix(lines[3], "downloaded: ") {
		t.Errorf("said %q", lines)
	}
	if got := broken(t, &command{stderr: &screen{}, quiet: true}); got != "" {
		t.Errorf("not quiet: %s", got)
	}
}

func TestAnOutageIsALineThatIsAlive(t *testing.T) {
	frames := strings.Split(
		broken(t, &command{stderr: &screen{width: func() int { return 90 }}}),
		clearLine,
	)
	alive := map[string]bool{}
	for _, frame := range frames[1 : len(frames)-3] { // The rest erase it and report the end.
		if !strings.HasPrefix(frame,
			"connection lost, 850.0 MiB of 913.0 MiB are safe, trying again in ") ||
			strings.Contains(frame, "\n") {
			t.Errorf("shown: %q", frame)
		}
		alive[frame] = true
	}
	if len(alive) < 2 {
		t.Errorf("the line does not change: %q", frames)
	}
}

func TestAnOutageIsLoggedWhereALevelIsChosen(t *testing.T) {
	c := &command{stderr: &screen{}}
	c.Identity.Name, c.environ = "test", []string{"TEST_LOG_LEVEL=warn"}
	if got := broken(t, c); strings.Count(got, "download interrupted, resuming") != 3 {
		t.Errorf("logged: %s", got)
	}
}

func TestWhatAnOutageIsCalled(t *testing.T) {
	for want, cause := range map[string]error{
		"connection lost":   status.Error(codes.Unavailable, "connection refused"),
		"server is silent":  rpc.ErrStalled,
		"the store is away": reason(codes.Unavailable, "the store is away", "STORE_UNAVAILABLE"),
		`a\x1b[2J`:          errors.New("a\x1b[2J"),
	} {
		if got := outageState(cause); got != want {
			t.Errorf("%v: %q, expected %q", cause, got, want)
		}
	}
}

// A command learns of outages in its own way only once it has a stream, which may break before.
func TestAnOutageMayBeginWhileACommandTakesItOver(t *testing.T) {
	c := &command{stderr: &screen{to: io.Discard}, config: &clientConfig{}}
	c.outage.command = c
	log := c.forPerson(
		telemetry.New(telemetry.Identity{Namespace: "test"}, telemetry.Config{}, c.stderr),
	).Log
	resumption := rpc.Resumption{Log: log, RetryDelay: time.Millisecond, MaxTries: math.MaxInt}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	var resuming sync.WaitGroup
	resuming.Go(func() {
		err := resumption.Resume(ctx, "exchange", func(context.Context, *rpc.Attempt) error {
			return status.Error(codes.Unavailable, "connection refused")
		})
		// The last attempt may have ended at that moment, and its error is told.
		if ctx.Err() == nil {
			t.Error(err)
		}
	})
	(&Terminal{command: c}).Outages(func(string) {
		select {
		case told <- struct{}{}:
		default: // The first is enough.
		}
	})
	<-told
	cancel()
	resuming.Wait()
}
