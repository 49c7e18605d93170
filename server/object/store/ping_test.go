package store

import (
	"net/http"
	"sync/atomic"
	"testing"

	"example.com/quartet/server/object/store/s3test"
)

func TestAPingIsOneRequestOfAnS3(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var reads, others atomic.Int64
	var down atomic.Bool
	f.Before = func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if down.Load() {
			s3test.Fail(w, http.StatusServiceUnavailable, "SlowDown")
			return true
		}
		if r.Method == http.MethodGet {
			reads.Add(1)
		} else {
			others.Add(1)
		}
		return false
	}
	if err := s.Ping(t.Context()); err != nil || reads.Load() != 1 || others.Load() != 0 {
		t.Errorf("%d reads and %d other requests, %v", reads.Load(), others.Load(), err)
	}
	down.Store(true)
	wantError(t, s.Ping(t.Context()), ErrUnavailable)
	down.Store(false)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPingMakesUpForACheckThatCouldNotWrite(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		for range 2 {
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
