package telemetry

import (
	"runtime"
	"runtime/debug"
	"testing"

	"google.golang.org/grpc/interop/grpc_testing"
)

// unsampledTelemetry is what there is while nothing is recorded: no tracer at
// all, or one that samples nothing.
func unsampledTelemetry() map[string]*Telemetry {
	never, _ := sampled(samplerOf("parentbased_traceidratio", "0", TrustNone))
	return map[string]*Telemetry{"no tracer": Discard(), "unsampled": never}
}

// TestAllocationsOfACall compares a unary call with and without telemetry on
// both sides. Allocations can be counted to a fraction of one, where time
// would need a quiet machine; they are what a call costs besides.
func TestAllocationsOfACall(t *testing.T) {
	const most = 16
	bare := mallocs(t, unaryOf(t, startBare(t, &service{})))
	for name, telemetry := range unsampledTelemetry() {
		t.Run(name, func(t *testing.T) {
			got := mallocs(t, unaryOf(t, start(t, &service{}, telemetry, telemetry))) - bare
			t.Logf("%.2f more than %.2f", got, bare)
			if got > most {
				t.Errorf(
					"a call allocates %.1f times more than the %.1f of grpc-go alone, want at most %d",
					got,
					bare,
					most,
				)
			}
		})
	}
}

// TestAllocationsOfAMessage expects that a message of a stream costs nothing
// more, in either direction and on either side.
func TestAllocationsOfAMessage(t *testing.T) {
	bare := mallocs(t, roundTripOf(t, startBare(t, &service{})))
	for name, telemetry := range unsampledTelemetry() {
		t.Run(name, func(t *testing.T) {
			got := mallocs(t, roundTripOf(t, start(t, &service{}, telemetry, telemetry))) - bare
			t.Logf("%.2f more than %.2f", got, bare)
			if got > 0.5 {
				t.Errorf("a message allocates %.2f times more than the %.2f of grpc-go alone", got, bare)
			}
		})
	}
}

// mallocs counts the allocations of the process while do runs, per run. The
// garbage collector rests meanwhile, since it empties the pools of grpc-go.
func mallocs(t *testing.T, do func(testing.TB)) float64 {
	t.Helper()
	if raced {
		t.Skip("the race detector allocates too")
	}
	const runs = 1000
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range runs / 10 {
		do(t) // What is made once is made.
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		do(t)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / runs
}

// unaryOf calls with a deadline, as every client of ours does.
func unaryOf(tb testing.TB, p *pair) func(testing.TB) {
	tb.Helper()
	ctx := testContext(tb)
	return func(tb testing.TB) {
		if err := p.callUnary(ctx); err != nil {
			tb.Fatal(err)
		}
	}
}

// roundTripOf sends a message over a stream that stays open and receives one.
func roundTripOf(tb testing.TB, p *pair) func(testing.TB) {
	tb.Helper()
	stream, err := p.stub.FullDuplexCall(testContext(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.conn.Close() })
	request := &grpc_testing.StreamingOutputCallRequest{Payload: payload(100)}
	return func(tb testing.TB) {
		if err := stream.Send(request); err != nil {
			tb.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			tb.Fatal(err)
		}
	}
}
