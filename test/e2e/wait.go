package e2e

import (
	"context"
	"errors"
	"testing"
	"time"
)

// pollInterval is short against everything that is waited for, and long against what one look
// costs.
const pollInterval = 500 * time.Millisecond

// eventually looks until there is nothing missing any more, and returns how long that took. What
// look returns says what is still missing; the last answer is the one that a failed test shows.
func eventually(
	t *testing.T, what string, within time.Duration, look func(ctx context.Context) error,
) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var missing error
	for {
		err := look(ctx)
		if err == nil {
			return time.Since(began)
		}
		if missing == nil || !errors.Is(err, context.DeadlineExceeded) {
			missing = err // A look that was cut by the deadline tells less than the one before it.
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, missing)
		case <-time.After(pollInterval):
		}
	}
}
