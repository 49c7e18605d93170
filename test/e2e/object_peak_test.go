package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// lookInterval is how often memory is looked at.
const lookInterval = 2 * time.Second

// peak is the most memory that was seen of each kind.
type peak struct {
	mu    sync.Mutex
	most  memory
	looks int
}

// watch looks until the end of the test. A look may fail, as when the container is being restarted.
func (p *peak) watch(t *testing.T, look func(ctx context.Context) (memory, error)) {
	t.Helper()
	var watching sync.WaitGroup
	t.Cleanup(watching.Wait) // The test's context is over then.
	watching.Go(func() {
		for ticker := time.NewTicker(lookInterval); ; {
			if now, err := look(t.Context()); err == nil {
				p.note(now)
			}
			select {
			case <-ticker.C:
			case <-t.Context().Done():
				return
			}
		}
	})
}

func (p *peak) note(now memory) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	p.most.anonymous = max(p.most.anonymous, now.anonymous)
	p.most.workingSet = max(p.most.workingSet, now.workingSet)
	p.most.sockets = max(p.most.sockets, now.sockets)
}

func (p *peak) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	const mib = 1 << 20
	return fmt.Sprintf("at most, in %d looks, %d MiB of the process, %d MiB of working set, %d MiB of sockets",
		p.looks, p.most.anonymous/mib, p.most.workingSet/mib, p.most.sockets/mib)
}
