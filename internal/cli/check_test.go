package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
)

// late is a context whose deadline is past while it is not done, as on a machine that is so busy
// that timers run late.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now(), true }

// TestAServiceIsAwaitedUntilTheTimeoutHasItsCause has the last question end before the timer of the
// timeout has run.
func TestAServiceIsAwaitedUntilTheTimeoutHasItsCause(t *testing.T) {
	address, _ := clienttest.Serve(t, "", func(grpc.ServiceRegistrar) {})
	conn := Connection{Conn: clienttest.Dial(t, telemetry.Discard(), address)}
	c := &command{timeout: time.Second, quiet: true}
	err := c.withTimeout(t.Context(), func(ctx context.Context) error {
		return c.awaitService(late{ctx}, address, conn, "test.Missing")
	})
	if !errors.Is(err, errTimeout) {
		t.Errorf("got %v", err)
	}
}
