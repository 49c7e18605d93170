package shares

import (
	"maps"
	"sync"

	"golang.org/x/time/rate"
)

// Rates bounds how often each caller does something. It is safe for concurrent use.
type Rates struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	callers map[any]*rate.Limiter
	// sweepAt is how many there may be before those that were idle are forgotten.
	sweepAt int
}

// minRates is how many callers are known before it is worth looking for those that were idle.
const minRates = 1024

// NewRates lets each caller do something limit times a second, and burst times at once. A limit of
// 0 is none.
func NewRates(limit rate.Limit, burst int) *Rates {
	return &Rates{limit: limit, burst: burst, callers: map[any]*rate.Limiter{}, sweepAt: minRates}
}

// Allow is true if the caller, which is comparable, may do it now; it then counts as done.
func (r *Rates) Allow(caller any) bool {
	if r.limit == 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter, known := r.callers[caller]
	if !known {
		if len(r.callers) >= r.sweepAt {
			maps.DeleteFunc(r.callers, func(_ any, l *rate.Limiter) bool {
				return l.Tokens() >= float64(r.burst)
			})
			r.sweepAt = max(minRates, 2*len(r.callers))
		}
		limiter = rate.NewLimiter(r.limit, r.burst)
		r.callers[caller] = limiter
	}
	return limiter.Allow()
}

// Spent is true if Allow would be false. It counts nothing.
func (r *Rates) Spent(caller any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter, known := r.callers[caller]
	return known && limiter.Tokens() < 1
}
