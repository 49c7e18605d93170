package engine

import (
	"sync/atomic"
	"time"
)

// Generations gives out numbers that no other object of this process has: the time in nanoseconds
// since 1970, so that a restart does not repeat any, either. The zero value is ready for use.
type Generations struct{ last atomic.Int64 }

// Next returns the time, or the next number if this one was given out already.
func (g *Generations) Next() int64 {
	for {
		last := g.last.Load()
		next := max(time.Now().UnixNano(), last+1)
		if g.last.CompareAndSwap(last, next) {
			return next
		}
	}
}
