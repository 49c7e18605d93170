package soak

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/quartet/server/object/s3/s3test"
)

// condition is how the store behaves for a while.
type condition int

const (
	normal condition = iota
	down             // every other request fails
	full             // nothing can be written
	slow             // every answer is late
)

func (c condition) String() string { return [...]string{"normal", "down", "full", "slow"}[c] }

// fault is what is done to one request.
type fault int

const (
	none      fault = iota
	refused         // 500 or 503
	lost            // the connection breaks before anything has happened
	unknown         // the request takes effect, and its answer gets lost
	late            // the answer comes late, and what happens happens early or late
	cutShort        // the connection breaks within the answer
	noSpace         // 507, or what stores say of a quota
	allFaults = iota
)

// faultyStore stands in front of an S3 service and has its requests fail.
type faultyStore struct {
	next   *s3test.Fake
	counts *counts
	ring   *ring

	conditions *rand.Rand // for injectFaults
	pending    atomic.Int64

	mu        sync.Mutex
	random    *rand.Rand // for all else
	held      int
	condition condition
}

// injectFaults changes the condition until ctx is done, and ends with no faults.
func (s *faultyStore) injectFaults(ctx context.Context) {
	chooser := s.conditions
	for wait(ctx, between(chooser, 100*time.Millisecond, 1200*time.Millisecond)) {
		kind := pick(chooser, []choice[condition]{{1, down}, {1, full}, {1, slow}})
		s.ring.add("store", "%s", kind)
		s.set(kind)
		wait(ctx, between(chooser, 30*time.Millisecond, 500*time.Millisecond))
		s.set(normal)
	}
	s.hold(true)
}

func (s *faultyStore) set(c condition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.condition = c
}

// hold lets all requests pass until every hold was ended, because a server that starts and finds no
// store gives up at once, and leaves it to Kubernetes to start it again.
func (s *faultyStore) hold(begin bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begin {
		s.held++
	} else {
		s.held--
	}
}

// choose decides what happens to a request, and how long it takes.
func (s *faultyStore) choose(r *http.Request) (fault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delay := between(s.random, 0, 250*time.Millisecond)
	usual := []choice[fault]{
		{1000, none}, {1, refused}, {1, lost}, {2, unknown}, {8, late}, {2, cutShort},
	}
	now := s.condition
	if s.held > 0 {
		now, usual = normal, usual[:1]
	}
	switch {
	case now == down:
		return pick(s.random, []choice[fault]{{2, none}, {1, refused}, {1, lost}}), delay
	case now == full && (r.Method == http.MethodPut || r.Method == http.MethodPost && r.URL.Query().Has("uploads")):
		return noSpace, delay
	case s.held == 0 && strings.Contains(r.URL.Path, "/objects/") && (r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") || r.Method == http.MethodPost && r.URL.Query().Has("uploadId")):
		// What is written here makes an object visible: the moment at which calls that race do
		// harm, if ever.
		return pick(s.random, []choice[fault]{{8, none}, {1, late}, {1, unknown}}), delay
	case now == slow:
		return pick(s.random, []choice[fault]{{3, none}, {1, late}}), delay
	}
	return pick(s.random, usual), delay
}

func (s *faultyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.pending.Add(1)
	defer s.pending.Add(-1)
	kind, delay := s.choose(r)
	s.counts.faults[kind].Add(1)
	switch kind {
	case refused:
		s3test.Fail(w, []int{http.StatusInternalServerError, http.StatusServiceUnavailable}[delay%2], "SlowDown")
	case noSpace:
		if delay%2 == 0 {
			s3test.Fail(w, http.StatusInsufficientStorage, "InsufficientStorage")
		} else {
			s3test.Fail(w, http.StatusForbidden, "QuotaExceeded")
		}
	case lost:
		panic(http.ErrAbortHandler)
	case unknown:
		s.next.ServeHTTP(unanswered{w}, r)
		panic(http.ErrAbortHandler)
	case late:
		if early := delay%2 == 0; early {
			defer time.Sleep(delay)
		} else {
			time.Sleep(delay)
		}
		s.next.ServeHTTP(w, r)
	case cutShort:
		s.next.ServeHTTP(&short{w, int(delay % partBytes)}, r)
	default:
		s.next.ServeHTTP(w, r)
	}
}

// unanswered drops the answer.
type unanswered struct{ http.ResponseWriter }

func (m unanswered) Write(p []byte) (int, error) { return len(p), nil }
func (m unanswered) WriteHeader(int)             {}

// short breaks the connection when so many bytes of the answer have been written.
type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(p []byte) (int, error) {
	if len(p) <= s.left {
		s.left -= len(p)
		return s.ResponseWriter.Write(p)
	}
	_, _ = s.ResponseWriter.Write(p[:s.left])
	_ = http.NewResponseController(s.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
