package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"example.com/quartet/test/process/processtest"
)

var (
	duration = flag.Duration("duration", 4*time.Second, "how long there are faults, in each topology")
	seed     = flag.Uint64("seed", 0, "what all decisions follow from; random if 0")
)

// workers is how many operations are under way at once, in each topology.
const workers = 24

func TestTransfersSurviveFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than everything else that a change concerns")
	}
	chosen := *seed
	for chosen == 0 {
		chosen = rand.Uint64()
	}
	processtest.Binary(t, "server") // It is not built while the time runs.
	for topology, replicas := range map[string]int{"folder": 1, "replicas": 2} {
		t.Run(topology, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", chosen)
			soak(t, chosen, replicas)
		})
	}
}

// soak makes faults for a while, ends them, and checks what is left.
func soak(t *testing.T, seed uint64, replicas int) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	w := newTopology(t, seed, replicas, stop)
	go w.finish(ctx)
	defer func() {
		if t.Failed() {
			t.Logf("to repeat it: -seed %d. What happened last:\n%s", seed, w.ring)
		}
	}()
	var working, injecting sync.WaitGroup
	var all []*worker
	for i := range workers {
		worker := &worker{topology: w, number: i, actor: fmt.Sprint("worker ", i), random: random(seed, "worker", i)}
		all = append(all, worker)
		working.Go(func() { worker.work(ctx) })
	}
	for _, p := range w.proxies {
		injecting.Go(func() { p.injectFaults(ctx) })
	}
	if w.store != nil {
		w.store.hold(false)
		injecting.Go(func() { w.store.injectFaults(ctx) })
	}
	w.injectFaults(ctx)
	injecting.Wait()
	working.Wait()
	if !t.Failed() {
		w.counts.prove(t, w.store != nil)
		w.inspect(all[0])
	}
}

// timeout is how much longer than asked for a run may take, on a busy machine, until it has had
// some of everything.
const timeout = 20 * time.Second

// finish stops the run when its time is over and everything has happened at least once.
func (w *topology) finish(ctx context.Context) {
	wait(ctx, *duration)
	latest := time.Now().Add(timeout)
	for len(w.counts.missing(w.store != nil)) > 0 && time.Now().Before(latest) {
		wait(ctx, 50*time.Millisecond)
	}
	w.stop()
}

// injectFaults kills servers, or has them drain, and starts them again, until ctx is done. It runs
// in the test's own goroutine, since a server that does not start ends the test.
func (w *topology) injectFaults(ctx context.Context) {
	chooser := random(w.seed, "processes")
	for turn := 0; wait(ctx, between(chooser, 100*time.Millisecond, 1500*time.Millisecond)); turn++ {
		chosen := []int{chooser.IntN(len(w.servers))}
		if chooser.IntN(4) == 0 {
			chosen = chooser.Perm(len(w.servers))
		}
		for _, i := range chosen {
			w.end(i, turn%2 == 0)
		}
		wait(ctx, between(chooser, time.Millisecond, 200*time.Millisecond))
		for _, i := range chosen {
			w.start(i)
		}
	}
}

// end ends a server: as a crash does, or as Kubernetes does.
func (w *topology) end(i int, crash bool) {
	if crash {
		w.servers[i].Kill()
		w.counts.kills.Add(1)
		w.ring.add("process", "%d was killed", i)
		return
	}
	w.ring.add("process", "%d drains", i)
	w.servers[i].Stop()
	w.counts.drains.Add(1)
	w.ring.add("process", "%d has drained", i)
}

// start starts a server again, while the store lets it.
func (w *topology) start(i int) {
	if w.store != nil {
		w.store.hold(true)
		defer w.store.hold(false)
	}
	w.servers[i].Restart()
	w.ring.add("process", "%d is back", i)
}
