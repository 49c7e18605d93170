package bulk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

const wait = 5 * time.Second

func reserve(t *testing.T, b *Budget, least, most, want int64) (release func()) {
	t.Helper()
	got, release, err := b.Reserve(t.Context(), least, most)
	if err != nil || got != want {
		t.Fatalf("Reserve(%d, %d) = %d, %v, want %d", least, most, got, err, want)
	}
	return release
}

func TestThereIsMoreWhileThereIsPlenty(t *testing.T) {
	b := NewBudget(100, 12, wait, 1)
	first := reserve(t, b, 5, 15, 15)
	for range 17 {
		reserve(t, b, 5, 15, 5) // There is extra for one only.
	}
	if got := b.Reserved(); got != 100 {
		t.Errorf("%d are reserved, want all", got)
	}
	first()
	reserve(t, b, 5, 15, 15)
}

func TestWhoFindsNothingWaitsAndIsThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100, 12, wait, 1)
		release := reserve(t, b, 100, 100, 100)
		began := time.Now()
		if _, _, err := b.Reserve(t.Context(), 1, 1); !errors.Is(err, ErrBudget) ||
			time.Since(began) != wait {
			t.Errorf("%v after %s, want %v after %s", err, time.Since(began), ErrBudget, wait)
		}
		time.AfterFunc(time.Second, release)
		began = time.Now()
		reserve(t, b, 60, 60, 60)
		if got := time.Since(began); got != time.Second {
			t.Errorf("it waited %s for what was free after a second", got)
		}
		if b.Waiting() != 0 || b.Reserved() != 60 {
			t.Errorf("%d wait, %d are reserved, want 0 and 60", b.Waiting(), b.Reserved())
		}
	})
}

func TestOnlySoManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100, 12, wait, 1)
		reserve(t, b, 100, 100, 100)
		go func() { _, _, _ = b.Reserve(context.Background(), 1, 1) }()
		synctest.Wait()
		began := time.Now()
		if _, _, err := b.Reserve(t.Context(), 1, 1); !errors.Is(err, ErrBudget) ||
			time.Since(began) != 0 {
			t.Errorf("%v after %s, want %v at once", err, time.Since(began), ErrBudget)
		}
		time.Sleep(wait)
	})
}

func TestWaitingForMemoryEndsWithTheCall(t *testing.T) {
	b := NewBudget(100, 12, wait, 1)
	reserve(t, b, 100, 100, 100)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, _, err := b.Reserve(ctx, 1, 1); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

func TestABudgetOfLessThanNothingHoldsNothing(t *testing.T) {
	b := NewBudget(-1, -1, time.Nanosecond, 1)
	if _, _, err := b.Reserve(t.Context(), 1, 2); !errors.Is(err, ErrBudget) || b.Limit() != 0 {
		t.Errorf("a limit of %d, %v", b.Limit(), err)
	}
}
