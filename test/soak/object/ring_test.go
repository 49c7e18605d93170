package soak

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// ring keeps the last events, from which a developer can find out why a test failed.
type ring struct {
	began time.Time
	mu    sync.Mutex
	lines [400]string
	next  int
}

func newRing() *ring { return &ring{began: time.Now()} }

func (r *ring) add(actor, format string, args ...any) {
	line := fmt.Sprintf("%10.4fs %-12s %s", time.Since(r.began).Seconds(), actor, fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[r.next%len(r.lines)] = line
	r.next++
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	for i := max(0, r.next-len(r.lines)); i < r.next; i++ {
		text.WriteString(r.lines[i%len(r.lines)] + "\n")
	}
	return text.String()
}
