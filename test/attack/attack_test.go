package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

const (
	// shortly is how long each attack lasts here, and fraction is how much less there is to prepare
	// for it.
	shortly  = 400 * time.Millisecond
	fraction = 100
	// refusedWithin is how much longer an attacker may wait to be refused, on a machine with much else
	// to do, and patiently how long the neighbour waits for an answer.
	refusedWithin, patiently = 10 * time.Second, 20 * time.Second
	// fewAtOnce is how many lookups with one service the neighbour has under way at most. All that are
	// due when its process was not run for a second would be more than its share of limitedCalls.
	fewAtOnce = 10
	// memoryLimit is that of the server, in MiB.
	memoryLimit = 256
	// limitedCalls is how many calls the server takes at once. An attacker with one connection has
	// more than its share.
	limitedCalls = "100"
)

// TestAttackersAreBounded tries each row that is expected to hold with one connection, one after
// the other, beside a neighbour that calls all the time. What is not tried yet has no `holds:
// true`; make attack tries all.
func TestAttackersAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than most of what a change concerns")
	}
	program := processtest.Binary(t, "server")
	s, err := startServer(
		t.Context(),
		program,
		t.TempDir(),
		memoryLimit,
		0,
		process.Setting("RPC_MAX_IN_FLIGHT", limitedCalls),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	n, err := startNeighbour(t.Context(), s.target, patiently, fewAtOnce)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	tried := 0
	for i, r := range allRows() {
		if !r.holds {
			continue
		}
		tried++
		t.Run(r.name, func(t *testing.T) {
			n.enter(recovered + 1 + phase(i))
			tryShortly(t, r, s)
			seen := n.in(t.Context(), recovered+1+phase(i))
			if seen.failed > 0 || seen.dead > 0 || seen.calls == 0 {
				t.Errorf(
					"of %d calls of the neighbour %d failed, and of %d probes %d: %s",
					seen.calls,
					seen.failed,
					seen.probes,
					seen.dead,
					seen.failure,
				)
			}
		})
	}
	if tried == 0 {
		t.Error("no row was tried")
	}
	if s.ended() {
		t.Errorf("the server ended:\n%s", s.log.tail())
	}
}

// refused is how often the attacker was told that it takes more than its share.
func (a *attacker) refused() (times int) {
	for name, count := range a.answers.all() {
		if strings.Contains(name, "of one caller") {
			times += count
		}
	}
	return times
}

func tryShortly(t *testing.T, r row, s *server) {
	t.Helper()
	if r.prepare != nil {
		if err := r.prepare(t.Context(), s.target, max(1, r.amount/fraction)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	by := newAttacker(s.target, load{1, r.load.streams})
	if r.load.streams == 1 {
		by.load.connections = min(r.load.connections, 100)
	}
	defer by.close()
	go func() {
		defer cancel()
		pause(ctx, shortly)
		late := time.Now().Add(refusedWithin)
		for r.refused && by.refused() == 0 && time.Now().Before(late) {
			pause(ctx, 10*time.Millisecond)
		}
	}()
	watched := make(chan int64)
	go func() { watched <- most(ctx, s) }()
	r.run(ctx, by)
	cancel()
	held := <-watched
	t.Logf("%v: at most %d MiB, answers %v", by.load, held>>20, by.answers.all())
	if share := memoryShare * float64(memoryLimit<<20); held == 0 || float64(held) > share {
		t.Errorf("the server held %d MiB of %d MiB", held>>20, memoryLimit)
	}
	if r.refused && by.refused() == 0 {
		t.Errorf("no call of an attacker above its share was refused: %v", by.answers.all())
	}
}

// most is the most that Go holds in a server until the context ends. It looks once at least. What
// is resident tells nothing here: the race detector takes several times as much.
func most(ctx context.Context, s *server) (bytes int64) {
	for {
		if now, err := s.held(context.WithoutCancel(ctx), false); err == nil {
			bytes = max(bytes, now.bytes)
		}
		if ctx.Err() != nil {
			return bytes
		}
		pause(ctx, 50*time.Millisecond)
	}
}
