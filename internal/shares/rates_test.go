package shares

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestACallerThatHasSpentItsRateLeavesThatOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates(2, 3)
		for range 3 {
			if r.Spent("greedy") || !r.Allow("greedy") {
				t.Fatal("its rate is spent at once")
			}
		}
		if !r.Spent("greedy") || r.Allow("greedy") {
			t.Error("more than its burst is allowed")
		}
		if r.Spent("other") || !r.Allow("other") {
			t.Error("another caller has less")
		}
		time.Sleep(500 * time.Millisecond)
		if r.Spent("greedy") || !r.Allow("greedy") {
			t.Error("nothing is allowed later")
		}
	})
}

func TestCallersThatWereIdleAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates(1, 1)
		for i := range 10 * minRates {
			r.Allow(i)
			if i%minRates == 0 {
				time.Sleep(time.Second)
			}
		}
		if len(r.callers) > 2*minRates {
			t.Errorf("%d callers are known", len(r.callers))
		}
	})
}

func TestWithoutALimitEverythingIsAllowed(t *testing.T) {
	r := NewRates(0, 0)
	for range 100 {
		if !r.Allow("caller") || r.Spent("caller") {
			t.Fatal("refused")
		}
	}
}

func TestToTryIsNotToWait(t *testing.T) {
	s := New(2, 1, 0)
	giveBack, ok := s.Try("greedy", 1)
	if !ok {
		t.Fatal("there is room")
	}
	if _, ok := s.Try("greedy", 1); ok {
		t.Error("above its share")
	}
	if _, ok := s.Try("other", 1); !ok {
		t.Error("another caller has less")
	}
	if _, ok := s.Try("third", 1); ok {
		t.Error("above the whole")
	}
	giveBack()
	if _, ok := s.Try("third", 1); !ok {
		t.Error("nothing was given back")
	}
}
