// Package traffic keeps steady traffic going against servers and verifies every answer. Dashboards
// and alerts have its numbers before there are users, and a rollout that loses a message or a byte
// shows in them.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/rpc"
)

// cleanUpTimeout bounds what is removed after the last operation.
const cleanUpTimeout = 5 * time.Second

// setUpPause is the time between two tries to set a source up.
const setUpPause = 2 * time.Second

// ErrWrong means that an answer differs from the expected one. Operations wrap it.
var ErrWrong = errors.New("wrong answer")

// Operation is repeated at a rate, and uses one RPC.
type Operation struct {
	// Method is the RPC's name in its service: "GetObject".
	Method string
	// Rate is how many operations are started a second, 0 for none.
	Rate float64
	// Do makes one operation and verifies the answer. It is never called twice at once, and with a
	// deadline.
	Do func(ctx context.Context) error
}

// Source is what a service adds to the traffic.
type Source struct {
	// Service is the one that has the methods.
	Service    protoreflect.ServiceDescriptor
	Operations []Operation
	// Await returns when the server is there, or ctx is done. It may be nil.
	Await func(ctx context.Context)
	// SetUp prepares the operations, for example with an object to look up. It may be nil.
	SetUp func(ctx context.Context) error
	// CleanUp removes what the operations have left on the servers, and fails if anything of it is
	// still there. It may be nil.
	CleanUp func(ctx context.Context) error
	// IsWrong reports whether an error means a wrong answer and not a missing or late one. ErrWrong,
	// broken contracts and DATA_LOSS always do. It may be nil.
	IsWrong func(error) bool
}

// Wrong reports whether an error means a wrong answer, and not a missing or late one.
func (s Source) Wrong(err error) bool {
	return errors.Is(err, ErrWrong) || errors.Is(err, rpc.ErrProtocol) ||
		status.Code(err) == codes.DataLoss ||
		err != nil && s.IsWrong != nil && s.IsWrong(err)
}

// Options are what all traffic of a process has in common.
type Options struct {
	// Timeout is the time after which an operation counts as bad.
	Timeout time.Duration
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	Log        *slog.Logger
	// OnReady is called once all sources are set up. It may be nil.
	OnReady func()
}

// Traffic is that of one process. Run it once.
type Traffic struct {
	options Options
	sources []Source
	metrics metrics

	// life is the context of operations. It outlives that of Run, so that what is under way may end.
	life context.Context
	cut  context.CancelFunc
}

// New makes the traffic of some sources.
func New(options Options, sources ...Source) *Traffic {
	life, cut := context.WithCancel(context.Background())
	return &Traffic{
		options: options,
		sources: sources,
		metrics: newMetrics(options.Registerer, sources),
		life:    life,
		cut:     cut,
	}
}

// Run makes traffic until ctx is done, lets the operations under way end, and removes what they
// have stored. Each source starts when its own set-up is done, so that one service that fails
// does not hide the others.
func (t *Traffic) Run(ctx context.Context) error {
	defer t.cut()
	// left counts the sources that are not set up. The one more is taken off below, when all have been
	// started, so that OnReady is called also without any source.
	var left atomic.Int64
	left.Store(int64(len(t.sources)) + 1)
	ready := func() {
		if left.Add(-1) == 0 && t.options.OnReady != nil {
			t.options.OnReady()
		}
	}
	var running sync.WaitGroup
	for _, source := range t.sources {
		running.Go(func() {
			// setUp is false only if ctx was done first: no operation was started.
			if t.setUp(ctx, source) {
				ready()
				t.run(ctx, source)
			}
		})
	}
	ready()
	running.Wait()
	// Sources without operations return at once. Run has to stay: a part that returns ends the
	// process.
	<-ctx.Done()
	return nil
}

// setUp prepares a source, and tries until it succeeds, since an operator may remove the cause of a
// failure. It is false when ctx is done before.
func (t *Traffic) setUp(ctx context.Context, source Source) bool {
	if source.Await != nil {
		source.Await(ctx)
	}
	for ctx.Err() == nil {
		if source.SetUp == nil {
			return true
		}
		// A set-up that hangs is tried again as well.
		limited, cancel := context.WithTimeout(ctx, t.options.Timeout)
		err := source.SetUp(limited)
		cancel()
		if err == nil {
			return true
		}
		// An error after the end of ctx comes from the end, and is not worth a line.
		if ctx.Err() == nil {
			t.options.Log.Warn(
				"traffic not set up, trying again",
				"service",
				source.Service.FullName(),
				"error",
				err,
				"wait",
				setUpPause,
			)
			_ = rpc.Sleep(ctx, setUpPause) // The loop finds that ctx is done.
		}
	}
	return false
}

// run makes the operations of a source that is set up, and cleans up after the last.
func (t *Traffic) run(ctx context.Context, source Source) {
	var running sync.WaitGroup
	for _, operation := range source.Operations {
		observer := t.observer(source, operation)
		// Each operation has a goroutine of its own, so that a slow one delays no other.
		running.Go(func() { t.repeat(ctx, operation, observer) })
	}
	running.Wait()
	// With all rates at 0 there is no operation to wait for, but what SetUp made is still needed.
	<-ctx.Done()
	if source.CleanUp != nil {
		// ctx is done by now. t.life ends with Cut, which ends the cleaning as well.
		cleaning, cancel := context.WithTimeout(t.life, cleanUpTimeout)
		defer cancel()
		if err := source.CleanUp(cleaning); err != nil {
			t.options.Log.Warn(
				"traffic: left behind",
				"service",
				source.Service.FullName(),
				"error",
				err,
			)
		}
	}
}

// Cut ends the operations under way at once. They are not counted, since no server has ended them.
func (t *Traffic) Cut() { t.cut() }

// repeat starts an operation at each tick. A tick that comes while one is under way waits, and
// further ones are skipped: a slow server must not get a backlog when it recovers.
func (t *Traffic) repeat(ctx context.Context, operation Operation, observer *observer) {
	if operation.Rate == 0 {
		return
	}
	// ValidRate has made sure that this is an interval that a ticker can count.
	ticker := time.NewTicker(time.Duration(float64(time.Second) / operation.Rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// select chooses at random when the end and a tick come together.
		if ctx.Err() == nil {
			t.try(operation, observer)
		}
	}
}

// try makes one operation, in its time, and counts it unless it was cut by our own stop.
func (t *Traffic) try(operation Operation, observer *observer) {
	// t.life and not the context of Run: an operation under way at the signal may still end.
	ctx, cancel := context.WithTimeout(t.life, t.options.Timeout)
	defer cancel()
	began := time.Now()
	err := operation.Do(ctx)
	if err == nil || t.life.Err() == nil {
		observer.observe(time.Since(began), err)
	}
}

// minRate is one operation an hour: what is rarer is a mistake, and no ticker counts intervals of
// centuries.
const minRate = 1. / 3600

// ValidRate checks a rate of a configuration: none, or between one operation an hour and a million
// a second.
func ValidRate(name string, rate float64) error {
	if rate == 0 || rate >= minRate && rate <= 1e6 {
		return nil
	}
	return fmt.Errorf(
		"%s=%v: is neither 0, for none, nor between 1/3600 (one an hour) and a million a second",
		name,
		rate,
	)
}
