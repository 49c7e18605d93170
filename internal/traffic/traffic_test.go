package traffic_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/traffic"
	"example.com/quartet/internal/traffic/traffictest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var descriptor = grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")

const method = "UnaryCall"

// one is a source with one operation, as often as the clock of a test bubble ticks.
func one(do func(context.Context) error) traffic.Source {
	return traffic.Source{
		Service:    descriptor,
		Operations: []traffic.Operation{{Method: method, Rate: 10, Do: do}},
	}
}

// running is traffic that runs in a bubble.
type running struct {
	*traffic.Traffic
	registry *prometheus.Registry
	log      *bytes.Buffer
	ready    atomic.Bool
	stop     context.CancelFunc
	done     chan error
}

func start(t *testing.T, sources ...traffic.Source) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{
		registry: prometheus.NewRegistry(),
		log:      &bytes.Buffer{},
		stop:     stop,
		done:     make(chan error, 1),
	}
	r.Traffic = traffic.New(traffic.Options{
		Timeout: time.Second, Registerer: r.registry, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		OnReady: func() { r.ready.Store(true) },
	}, sources...)
	go func() { r.done <- r.Run(ctx) }()
	return r
}

// end stops the traffic and wants so many good and bad operations.
func (r *running) end(t *testing.T, good, bad float64) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if got := traffictest.Counted(t, r.registry)[method]; got != [2]float64{good, bad} {
		t.Errorf("%v good and bad, expected %v and %v", got, good, bad)
	}
}

func TestOperationsAreMadeAtTheirRateAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, one(func(context.Context) error { return nil }))
		time.Sleep(2*time.Second + time.Millisecond)
		r.end(t, 20, 0)
		if n, err := testutil.GatherAndCount(r.registry, "traffic_operation_seconds"); n != 1 ||
			err != nil {
			t.Errorf("%d times, %v", n, err)
		}
	})
}

func TestASlowServerIsMetByNoBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		r := start(t, one(func(ctx context.Context) error {
			if slow {
				slow = false
				return rpc.Sleep(ctx, 950*time.Millisecond)
			}
			return nil
		}))
		time.Sleep(2*time.Second + time.Millisecond)
		r.end(
			t,
			12,
			0,
		) // The slow one up to 1.05 s, one that waited, and those from 1.1 s on; eight were skipped.
	})
}

func TestAllCountersAreThereFromTheStart(t *testing.T) {
	registry := prometheus.NewRegistry()
	traffic.New(
		traffic.Options{Registerer: registry},
		traffic.Source{Service: descriptor, Operations: []traffic.Operation{
			{
				Method: "UnaryCall",
			},
			{Method: "StreamingInputCall"},
			{Method: "StreamingOutputCall"},
			{Method: "FullDuplexCall"},
		}},
	)
	want := "# HELP traffic_operations_total Operations of the steady traffic whose answer was verified: good if it was right, bad if it was wrong, late or an error.\n" +
		"# TYPE traffic_operations_total counter\n"
	for _, method := range []string{
		`grpc_method="FullDuplexCall",grpc_service="grpc.testing.TestService",grpc_type="bidi_stream"`,
		`grpc_method="StreamingInputCall",grpc_service="grpc.testing.TestService",grpc_type="client_stream"`,
		`grpc_method="StreamingOutputCall",grpc_service="grpc.testing.TestService",grpc_type="server_stream"`,
		`grpc_method="UnaryCall",grpc_service="grpc.testing.TestService",grpc_type="unary"`,
	} {
		for _, verdict := range []string{"bad", "good"} {
			want += fmt.Sprintf("traffic_operations_total{%s,verdict=%q} 0\n", method, verdict)
		}
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"traffic_operations_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "traffic_operation_seconds"); n != 4 || err != nil {
		t.Errorf("%d histograms, %v", n, err)
	}
}

func TestOperationsUnderWayMayEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := start(t, one(func(ctx context.Context) error {
			select {
			case <-hold:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
		hold <- struct{}{} // One has come through, and
		hold <- struct{}{} // the next,
		time.Sleep(150 * time.Millisecond)
		r.stop()
		synctest.Wait()
		close(hold) // and one is under way.
		r.end(t, 3, 0)
	})
}

func TestCutOperationsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		r := start(t, one(func(ctx context.Context) error {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}))
		<-begun
		r.stop()
		r.Cut()
		r.end(t, 0, 0)
	})
}

func TestAnOperationThatTakesTooLongIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, one(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		time.Sleep(1200 * time.Millisecond)
		r.stop()
		r.end(t, 0, 2)
	})
}

func TestAnOutageIsLoggedAtItsBeginningAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := start(t, one(func(context.Context) error {
			if n++; n > 2 && n <= 7 {
				return errors.New("away")
			}
			return nil
		}))
		time.Sleep(time.Second + time.Millisecond)
		r.end(t, 5, 5)
		log := r.log.String()
		for _, line := range []string{
			`level=WARN msg="traffic: failing" method=grpc.testing.TestService/UnaryCall error=away`,
			`level=INFO msg="traffic: working again" method=grpc.testing.TestService/UnaryCall failed=5`,
		} {
			if strings.Count(log, line) != 1 {
				t.Errorf("%q is not there once:\n%s", line, log)
			}
		}
		if strings.Count(log, "\n") != 2 {
			t.Errorf("more is logged:\n%s", log)
		}
	})
}

func TestEachWrongAnswerIsLogged(t *testing.T) {
	errMine := errors.New("mine")
	for name, err := range map[string]error{
		"wrong answer":    fmt.Errorf("%w: 7 in place of 8", traffic.ErrWrong),
		"broken contract": fmt.Errorf("%w: too much", rpc.ErrProtocol),
		"data loss":       status.Error(codes.DataLoss, "lost"),
		"of the service":  fmt.Errorf("found: %w", errMine),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := one(func(context.Context) error { return err })
				source.IsWrong = func(err error) bool { return errors.Is(err, errMine) }
				r := start(t, source)
				time.Sleep(300*time.Millisecond + time.Millisecond)
				r.end(t, 0, 3)
				if n := strings.Count(r.log.String(), `level=ERROR msg="traffic: wrong"`); n != 3 {
					t.Errorf("logged %d times:\n%s", n, r.log)
				}
			})
		})
	}
}

func TestSetUpIsTriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		source := one(func(context.Context) error { return nil })
		source.SetUp = func(ctx context.Context) error {
			try := tries.Add(1)
			if try == 1 {
				<-ctx.Done() // A try has its time.
			}
			if try <= 3 {
				return errors.New("full")
			}
			return nil
		}
		r := start(t, source, traffic.Source{Service: descriptor}) // That one needs none.
		time.Sleep(6900 * time.Millisecond)
		if r.ready.Load() || tries.Load() != 3 {
			t.Errorf("ready is %v after %d tries", r.ready.Load(), tries.Load())
		}
		time.Sleep(time.Second + 101*time.Millisecond) // The fourth is after 1 s and three pauses of 2 s.
		if !r.ready.Load() || tries.Load() != 4 {
			t.Errorf("ready is %v after %d tries", r.ready.Load(), tries.Load())
		}
		r.end(t, 10, 0)
		line := `"traffic not set up, trying again" service=grpc.testing.TestService`
		if n := strings.Count(r.log.String(), line); n != 3 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}
	})
}

// TestASourceThatIsNotSetUpHoldsUpNoOther has one whose server is away, and one whose server lacks
// what it needs.
func TestASourceThatIsNotSetUpHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(context.Context) error {
			t.Error("cleaned up after nothing")
			return nil
		}
		r := start(
			t,
			traffic.Source{
				Service: descriptor,
				CleanUp: never,
				Await:   func(ctx context.Context) { <-ctx.Done() },
			},
			traffic.Source{
				Service: descriptor,
				CleanUp: never,
				SetUp:   func(context.Context) error { return errors.New("full") },
			},
			one(func(context.Context) error { return nil }),
		)
		time.Sleep(time.Second + time.Millisecond)
		if r.ready.Load() {
			t.Error("ready without all")
		}
		r.end(t, 10, 0)
		if r.ready.Load() {
			t.Error("ready when it ended")
		}
	})
}

func TestWhatIsLeftBehindIsRemovedAfterTheLastOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 0
		source := one(func(ctx context.Context) error {
			_ = rpc.Sleep(ctx, 50*time.Millisecond)
			left++
			return nil
		})
		cleaned := -1
		source.CleanUp = func(ctx context.Context) error {
			if end, ok := ctx.Deadline(); !ok || time.Until(end) > 5*time.Second {
				t.Error("cleaning up may take any time")
			}
			cleaned = left
			return nil
		}
		r := start(t, source, traffic.Source{Service: descriptor})
		time.Sleep(210 * time.Millisecond) // The second operation is under way.
		r.end(t, 2, 0)
		if cleaned != 2 {
			t.Errorf("cleaned up after %d operations", cleaned)
		}
	})
}

func TestWithoutARateNothingIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := one(func(context.Context) error {
			t.Error("done")
			return nil
		})
		source.Operations[0].Rate = 0
		r := start(t, source)
		time.Sleep(time.Hour)
		r.end(t, 0, 0)
	})
}

func TestRatesAreValidated(t *testing.T) {
	for _, rate := range []float64{0, 1. / 3600, 0.001, 5, 1e6} {
		if err := traffic.ValidRate("RATE", rate); err != nil {
			t.Error(err)
		}
	}
	for _, rate := range []float64{-1, 1e-11, 1e-4, 1e9, math.NaN(), math.Inf(1)} {
		if err := traffic.ValidRate("RATE", rate); err == nil ||
			!strings.HasPrefix(err.Error(), "RATE=") {
			t.Errorf("%v: %v", rate, err)
		}
	}
}
