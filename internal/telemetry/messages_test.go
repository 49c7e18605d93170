package telemetry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/interop/grpc_testing"
)

// TestMessagesAreTimedInTheDirectionThatStreams makes one call of each mode, in
// which three messages stream, and expects one of them to be the first and two
// to follow at a distance.
func TestMessagesAreTimedInTheDirectionThatStreams(t *testing.T) {
	want := map[kind]struct{ first, gaps uint64 }{
		unary:        {0, 0},
		serverStream: {1, 2},
		clientStream: {0, 2},
		bidiStream:   {1, 2},
	}
	for _, mode := range modes {
		t.Run(string(mode.kind), func(t *testing.T) {
			p := start(t, &service{}, Discard(), Discard())
			if err := mode.call(p, testContext(t)); err != nil {
				t.Fatal(err)
			}
			p.settle()
			for name, families := range map[string]*callMetrics{"server": p.server.server, "client": p.client.client} {
				first, gaps := samples(families.first), samples(families.gap)
				if first != want[mode.kind].first || gaps != want[mode.kind].gaps {
					t.Errorf("%s: %d first messages and %d gaps, want %+v", name, first, gaps, want[mode.kind])
				}
			}
		})
	}
}

// samples is how often a histogram was observed, over all its labels.
func samples(c prometheus.Collector) uint64 {
	metrics := make(chan prometheus.Metric, 100)
	c.Collect(metrics)
	close(metrics)
	var n uint64
	for metric := range metrics {
		var m dto.Metric
		if metric.Write(&m) == nil {
			n += m.GetHistogram().GetSampleCount()
		}
	}
	return n
}

func TestGapsAreTheTimesBetweenMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := Discard().NewServerCalls(testService()).side.methods
		m := table.find("/"+testServiceName+"/StreamingOutputCall", serverStream)
		c := &call{method: m, began: time.Now()}
		for _, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			time.Sleep(pause)
			c.didSend(&grpc_testing.StreamingOutputCallResponse{})
		}
		if got := histogram(t, m.sent.first).GetSampleSum(); got != 1 {
			t.Errorf("the first message came after %v s, want 1 s", got)
		}
		if got := histogram(t, m.sent.gap); got.GetSampleSum() != 6 || got.GetSampleCount() != 2 {
			t.Errorf("%d gaps of %v s together, want 2 of 6 s", got.GetSampleCount(), got.GetSampleSum())
		}
	})
}
