package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// The addresses on this machine of the neighbour and of what asks for the health. The attacker has
// 127.0.0.1.
const (
	neighbourAddress = "127.0.0.2"
	kubeletAddress   = "127.0.0.3"
)

const (
	// lookupInterval is between the lookups with one service.
	lookupInterval = 20 * time.Millisecond
	// timeout is how long the neighbour waits for an answer, as the kubelet does in the chart.
	timeout = 5 * time.Second
	// lookupsAtOnce is more than there are of one service within the timeout: no lookup waits.
	lookupsAtOnce = int(2 * timeout / lookupInterval)
	// probeInterval is for liveness. The kubelet asks less often.
	probeInterval = 500 * time.Millisecond
)

// steady is what the neighbour does at intervals besides lookups, one after the other. start is
// called first, and again after a failure.
type steady struct {
	name  string
	every time.Duration
	start func(ctx context.Context, conn *grpc.ClientConn) (
		do func(ctx context.Context) error, err error)
}

// each does the same again and again, without anything that is kept in between.
func each(
	do func(ctx context.Context, conn *grpc.ClientConn) error,
) func(context.Context, *grpc.ClientConn) (func(context.Context) error, error) {
	return func(_ context.Context, conn *grpc.ClientConn) (func(context.Context) error, error) {
		return func(ctx context.Context) error { return do(ctx, conn) }, nil
	}
}

// phase is when a call of the neighbour began.
type phase int32

const (
	before phase = iota
	quiet
	attacked
	after
	recovered
)

// neighbour calls a server as a quiet caller does, and notes what becomes of its calls.
type neighbour struct {
	conn    *grpc.ClientConn
	timeout time.Duration
	atOnce  int // lookups with one service
	phase   atomic.Int32
	stop    context.CancelFunc
	calling sync.WaitGroup

	mu    sync.Mutex
	notes map[phase]*notes
}

// notes are those of one phase.
type notes struct {
	pending       int // calls that have not ended
	calls, failed int
	probes, dead  int
	failure       string // the first one
	lookups       []time.Duration
}

// startNeighbour returns when the neighbour has what it needs.
func startNeighbour(
	ctx context.Context,
	t target,
	timeout time.Duration,
	atOnce int,
) (*neighbour, error) {
	conn, err := dial(t.GRPC, t.local(neighbourAddress))
	if err != nil {
		return nil, err
	}
	n := &neighbour{conn: conn, timeout: timeout, atOnce: atOnce, notes: map[phase]*notes{}}
	for _, s := range services {
		if s.neighbour.prepare == nil {
			continue
		}
		if err := s.neighbour.prepare(ctx, conn); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("prepare the neighbour's calls of %s: %w", s.name, err)
		}
	}
	ctx, n.stop = context.WithCancel(ctx)
	if !slices.ContainsFunc(services, func(s service) bool { return s.neighbour.lookup != nil }) {
		n.calling.Go(func() { n.look(ctx, "health", lookHealth) })
	}
	for _, s := range services {
		if s.neighbour.lookup != nil {
			n.calling.Go(func() { n.look(ctx, s.name, s.neighbour.lookup) })
		}
		for _, what := range s.neighbour.steady {
			n.calling.Go(func() { n.keep(ctx, what) })
		}
	}
	if t.Probe != "" {
		n.calling.Go(func() { n.probe(ctx, t.Probe) })
	}
	if t.Web != "" {
		n.calling.Go(func() { n.keep(ctx, talkWeb(t.Web)) })
	}
	return n, nil
}

func (n *neighbour) close() {
	n.stop()
	n.calling.Wait()
	_ = n.conn.Close()
}

// in returns the notes of a phase, when all calls that began in it have ended.
func (n *neighbour) in(ctx context.Context, p phase) notes {
	for {
		n.mu.Lock()
		found := *n.of(p)
		n.mu.Unlock()
		if found.pending == 0 || ctx.Err() != nil {
			found.lookups = slices.Sorted(slices.Values(found.lookups))
			return found
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// of is called with mu held.
func (n *neighbour) of(p phase) *notes {
	if n.notes[p] == nil {
		n.notes[p] = &notes{}
	}
	return n.notes[p]
}

func (n *neighbour) enter(p phase) { n.phase.Store(int32(p)) }

// call notes how a call ends, and how long that took, unless the neighbour was stopped meanwhile.
func (n *neighbour) call(
	ctx context.Context,
	what string,
	do func(ctx context.Context) error,
) (failed bool) {
	n.mu.Lock()
	in := n.of(phase(n.phase.Load()))
	in.pending++
	n.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	err := do(within)
	n.mu.Lock()
	defer n.mu.Unlock()
	in.pending--
	if ctx.Err() != nil {
		return false
	}
	if err != nil && in.failure == "" {
		in.failure = fmt.Sprintf("%s: %.160v", what, err)
	}
	switch {
	case what == liveness && err != nil:
		in.probes++
		in.dead++
	case what == liveness:
		in.probes++
	default:
		in.calls++
		if err != nil {
			in.failed++
		}
	}
	return err != nil
}

// liveness is what probes are called in notes.
const liveness = "liveness"

func (n *neighbour) took(p phase, lookup time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of(p).lookups = append(n.of(p).lookups, lookup)
}

// look calls at its times, whether or not the calls before have ended, unless those are already as
// many as may be: those that wait would hide how long others do.
func (n *neighbour) look(
	ctx context.Context,
	name string,
	lookup func(context.Context, *grpc.ClientConn) error,
) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	room := make(chan struct{}, n.atOnce)
	for at := range ticks(ctx, lookupInterval) {
		room <- struct{}{} // All calls end within the timeout.
		p := phase(n.phase.Load())
		waiting.Go(func() {
			defer func() { <-room }()
			n.call(ctx, "lookup of "+name, func(ctx context.Context) error {
				err := lookup(ctx, n.conn)
				n.took(p, time.Since(at))
				return err
			})
		})
	}
}

// lookHealth is the lookup of a server without services that have one.
func lookHealth(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// ticks are due times. A receiver that is late gets all that it has missed.
func ticks(ctx context.Context, interval time.Duration) func(yield func(time.Time) bool) {
	return func(yield func(time.Time) bool) {
		for at := time.Now(); ; at = at.Add(interval) {
			if pause(ctx, time.Until(at)); ctx.Err() != nil || !yield(at) {
				return
			}
		}
	}
}

// keep does something at intervals.
func (n *neighbour) keep(ctx context.Context, what steady) {
	var do func(context.Context) error
	for ctx.Err() == nil {
		failed := n.call(ctx, what.name, func(within context.Context) (err error) {
			if do == nil {
				do, err = n.begin(ctx, what)
			}
			if err != nil {
				return err
			}
			return do(within)
		})
		if failed {
			do = nil
		}
		pause(ctx, what.every)
	}
}

// begin starts what lasts as long as the neighbour, but has to begin within the time that it has
// for an answer.
func (n *neighbour) begin(ctx context.Context, what steady) (func(context.Context) error, error) {
	lasting, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(n.timeout, cancel)
	do, err := what.start(lasting, n.conn)
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	context.AfterFunc(ctx, cancel)
	return do, nil
}

// probe asks for liveness as the kubelet does, with a connection for each probe.
func (n *neighbour) probe(ctx context.Context, address string) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for range ticks(ctx, probeInterval) {
		waiting.Go(func() {
			n.call(ctx, liveness, func(ctx context.Context) error { return live(ctx, address) })
		})
	}
}

func live(ctx context.Context, address string) error {
	conn, err := dial(address, target{GRPC: address}.local(kubeletAddress))
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := healthpb.NewHealthClient(
		conn,
	).Check(
		ctx,
		&healthpb.HealthCheckRequest{Service: "liveness"},
	)
	if err == nil && reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = status.Error(codes.Unavailable, reply.GetStatus().String())
	}
	return err
}
