package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// lanes is how many uploads, and how many downloads, there are at once.
	lanes = 3
	// laneBytes and lanePace make transfers that a pod may end with or not, and leave the machine room
	// for everything else.
	laneBytes = 256 << 20
	lanePace  = 16 << 20
	// moveTime is how long a transfer may take until it moves again, after whatever has happened.
	moveTime = 2 * time.Minute
)

// traffic is uploads and downloads that follow one another without a pause. The uploads replace one
// another's objects; the downloads fetch what was there before.
type traffic struct {
	ctx  context.Context // that of the test in which it runs
	busy sync.WaitGroup
	stop chan struct{}
	// current are the transfers that run, one in each lane.
	current [2 * lanes]atomic.Pointer[transfer]

	mu    sync.Mutex
	ended []*transfer
	err   error
}

// startTraffic begins in all lanes, each with a connection of its own.
func (d *disrupted) startTraffic(t *testing.T) *traffic {
	t.Helper()
	f := &traffic{ctx: t.Context(), stop: make(chan struct{})}
	for lane := range lanes {
		up, down := newCaller(t, d.address), newCaller(t, d.address)
		f.run(lane, d.upload, func() *transfer {
			return &transfer{client: up, name: fmt.Sprint("replaced-", lane), content: d.newContent()}
		})
		f.run(lanes+lane, (*transfer).download, func() *transfer {
			return &transfer{client: down, name: d.kept[lane].name, content: d.kept[lane].content}
		})
	}
	return f
}

// run does one transfer after another in a lane, until there are to be no more or one has failed.
func (f *traffic) run(lane int, do func(*transfer) error, next func() *transfer) {
	f.busy.Go(func() {
		for {
			select {
			case <-f.stop:
				return
			default:
			}
			transfer := next()
			transfer.ctx, transfer.pace = f.ctx, lanePace
			f.current[lane].Store(transfer)
			err := do(transfer)
			f.note(transfer, err)
			if err != nil {
				return
			}
		}
	})
}

func (f *traffic) note(ended *transfer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, ended)
	if err != nil {
		f.err = errors.Join(f.err, fmt.Errorf("%s, %s: %w", time.Now().UTC().Format(time.TimeOnly), ended.name, err))
	}
}

func (f *traffic) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// moves waits until every lane has moved something since now.
func (f *traffic) moves(t *testing.T) {
	t.Helper()
	type mark struct {
		of    *transfer
		moved int64
	}
	before := [len(f.current)]mark{}
	for lane := range f.current {
		if c := f.current[lane].Load(); c != nil {
			before[lane] = mark{c, c.moved.Load()}
		}
	}
	took := eventually(t, "movement of every transfer", moveTime, func(context.Context) error {
		if err := f.failure(); err != nil {
			t.Fatal(err)
		}
		for lane := range f.current {
			c := f.current[lane].Load()
			if c == nil || c == before[lane].of && c.moved.Load() < before[lane].moved+partBytes {
				return fmt.Errorf("lane %d stands still", lane)
			}
		}
		return nil
	})
	t.Logf("every transfer moved on within %.1f s", took.Seconds())
}

// finish begins no more transfers, waits for those that run, and reports what the disruption has
// cost. It returns how often a transfer was resumed.
func (f *traffic) finish(t *testing.T) (resumes int) {
	t.Helper()
	close(f.stop)
	f.busy.Wait()
	if f.err != nil {
		t.Fatal(f.err)
	}
	var twice int64
	var slowest time.Duration
	for _, ended := range f.ended {
		resumes, twice, slowest = resumes+ended.resumes, twice+ended.twice, max(slowest, ended.took)
	}
	t.Logf("%d transfers of %d MiB ended well after %d resumes, with %.1f MiB sent twice",
		len(f.ended), laneBytes>>20, resumes, float64(twice)/(1<<20))
	t.Logf("the longest took %.1f s, where nothing happens %d s", slowest.Seconds(), laneBytes/lanePace)
	return resumes
}
