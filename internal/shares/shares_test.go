package shares

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func take(t *testing.T, s *Shares, caller any, n int64) (giveBack func()) {
	t.Helper()
	giveBack, err := s.Take(t.Context(), caller, n)
	if err != nil {
		t.Fatal(err)
	}
	return giveBack
}

func TestACallerWaitsForItsShareAndLeavesTheRestToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(10, 6, 0)
		giveBack := take(t, s, "greedy", 6)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Take(ctx, "greedy", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("above its share: %v", err)
		}
		other := take(t, s, "other", 4)
		done := make(chan error)
		go func() {
			_, err := s.Take(t.Context(), "third", 3) // There is too little of it for all.
			done <- err
		}()
		synctest.Wait()
		if s.Waiting() != 1 || s.Callers() != 3 {
			t.Errorf("%d wait, of %d callers", s.Waiting(), s.Callers())
		}
		giveBack()
		if err := <-done; err != nil {
			t.Error(err)
		}
		other()
		if s.Waiting() != 0 || s.Callers() != 1 {
			t.Errorf("%d wait, of %d callers", s.Waiting(), s.Callers())
		}
	})
}

func TestFewCallsOfACallerWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(0, 1, 2)
		giveBack := take(t, s, "greedy", 1)
		served := make(chan struct{}, 2)
		for range cap(served) {
			go func() {
				giveBack, err := s.Take(t.Context(), "greedy", 1)
				if err != nil {
					t.Error(err)
					return
				}
				served <- struct{}{}
				giveBack()
			}()
		}
		synctest.Wait()
		if _, err := s.Take(t.Context(), "greedy", 1); !errors.Is(err, ErrTooManyWait) {
			t.Errorf("the third one that waits: %v", err)
		}
		take(t, s, "other", 1)()
		giveBack()
		<-served
		<-served
		synctest.Wait()
		if s.Callers() != 0 {
			t.Errorf("%d callers stay", s.Callers())
		}
	})
}

func TestACallThatHeldSomeBeforeWaitsHoweverManyDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(0, 1, 1)
		giveBack := take(t, s, "greedy", 1)
		done := make(chan error, 2)
		for _, take := range []func(context.Context, any, int64) (func(), error){s.Take, s.Retake} {
			go func() {
				giveBack, err := take(t.Context(), "greedy", 1)
				if err == nil {
					giveBack()
				}
				done <- err
			}()
			synctest.Wait()
		}
		if _, err := s.Take(t.Context(), "greedy", 1); !errors.Is(err, ErrTooManyWait) || len(done) > 0 {
			t.Errorf("a third one: %v", err)
		}
		giveBack()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
