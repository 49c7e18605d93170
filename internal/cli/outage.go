package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// outage reports a stream that broke and is tried again, in place of the line in a log: on a
// terminal with a line that counts down, elsewhere with a sentence when it breaks and another when
// it continues.
type outage struct {
	command *command

	// mu guards what follows, and what is shown: the command, the goroutine that resumes a stream, and
	// the one that counts down use them.
	mu    sync.Mutex
	began time.Time // the zero time while there is none
	end   func()    // of the line that counts down
	// tell, if set by Outages, takes the state in place of the terminal.
	tell func(state string)
}

// Outages calls do in place of writing to the terminal: with the reason when a stream broke, and
// with "" when it continues. A stream may be open already, and break meanwhile.
func (c *Terminal) Outages(do func(state string)) {
	o := &c.command.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tell = do
}

// lost begins an outage, or goes on with it: the next attempt is made after wait.
func (o *outage) lost(cause error, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// The stream may break again before it has continued: that is the same outage, with a new wait.
	first := o.began.IsZero()
	if first {
		o.began = time.Now()
	}
	// The line that counts down to the last attempt makes room for the next.
	if o.end != nil {
		o.end()
		o.end = nil
	}
	// How much of a transfer is safe is what a person wants to know now.
	state := outageState(cause) + o.command.progress.sofar()
	switch {
	case o.command.quiet:
	case o.tell != nil:
		o.tell(state)
	case o.command.stderr.width != nil:
		// Not the command's context: the outage ends the line, or stop does.
		ctx, cancel := context.WithCancel(context.Background())
		o.end = cancel
		// It gets copies of what it needs, so that it takes the lock only for drawing.
		go o.countDown(ctx, state, o.began, time.Now().Add(wait))
	// In a pipe each attempt would be a line; one for the outage is enough.
	case first:
		o.command.note("%s, trying again", state)
	}
}

// countDown counts down until ctx is done.
func (o *outage) countDown(ctx context.Context, state string, began, until time.Time) {
	for ctx.Err() == nil {
		line := state + ", trying again"
		if left := time.Until(until); left > 0 {
			// It is rounded up, so that it never shows 0 s while there is still a wait.
			line += fmt.Sprintf(" in %.0f s", math.Ceil(left.Seconds()))
		} else {
			// The attempt is under way, and may take long.
			line += fmt.Sprintf(" (%.0f s so far)", time.Since(began).Seconds())
		}
		// Under the lock, so that a line is never drawn after back or lost has ended this one.
		o.mu.Lock()
		if ctx.Err() == nil {
			o.command.stderr.show(line)
		}
		o.mu.Unlock()
		_ = rpc.Sleep(ctx, time.Second/2) // The loop finds that ctx is done.
	}
}

// back ends an outage, if there is one.
func (o *outage) back() {
	o.mu.Lock()
	defer o.mu.Unlock()
	// It is called for all that comes, so that it is cheap without an outage.
	if o.began.IsZero() {
		return
	}
	if o.end != nil {
		o.end()
		o.end = nil
	}
	switch {
	case o.command.quiet:
	case o.tell != nil:
		o.tell("")
	case o.command.stderr.width != nil:
		o.command.stderr.hide()
	default:
		o.command.note("going on after %s", round(time.Since(o.began)))
	}
	o.began = time.Time{}
}

// stop ends the line that counts down, when the command ends.
func (o *outage) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		o.end()
	}
}

// outageState is why a stream is tried again, for people.
func outageState(cause error) string {
	switch {
	case rpc.IsBusy(cause):
		return "server is busy"
	case errors.Is(cause, rpc.ErrStalled):
		return "server is silent"
	// Without a reason from our server the code comes from gRPC, whose text names sockets and frames.
	case status.Code(cause) == codes.Unavailable && rpc.Reason(cause) == "" || errors.Is(cause, rpc.ErrEnded):
		return "connection lost"
	default:
		return Printable(telemetry.Redacted(status.Convert(cause).Message()))
	}
}

// outageHandler takes the log lines of streams that are tried again, and leaves all others to the
// log.
type outageHandler struct {
	slog.Handler
	outage *outage
}

// Handle implements slog.Handler. A line with an error and a wait is that of a stream that is tried
// again; the attributes are the ones that package rpc writes.
func (h outageHandler) Handle(ctx context.Context, r slog.Record) error {
	var cause error
	wait := time.Duration(-1)
	r.Attrs(func(a slog.Attr) bool {
		switch value := a.Value.Any().(type) {
		case error:
			cause = value
		case time.Duration:
			if a.Key == "wait" {
				wait = value
			}
		}
		return true
	})
	if cause == nil || wait < 0 {
		return h.Handler.Handle(ctx, r)
	}
	h.outage.lost(cause, wait)
	return nil
}

// forPerson is the telemetry of the connections of a command that a person has called: unless a
// level is chosen, an outage is shown and not logged.
func (c *command) forPerson(t *telemetry.Telemetry) *telemetry.Telemetry {
	if c.levelChosen() {
		return t
	}
	// A copy, since the connections go on with the telemetry as it is.
	person := *t
	person.Log = slog.New(outageHandler{t.Log.Handler(), &c.outage})
	return &person
}
