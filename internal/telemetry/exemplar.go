package telemetry

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
)

// exampleInterval is how old an exemplar gets before it is replaced. To make
// one costs more than to count a call, and Prometheus takes one of each series
// with a scrape.
const exampleInterval = time.Second

// examples decides which calls become exemplars: the first of each bucket and
// of each code, and then one every interval. So those that are rare, the slow
// and the failed, always have one.
type examples struct {
	// bounds are the upper bounds of the buckets, in seconds.
	bounds  []float64
	buckets []atomic.Int64 // when each had its last, in Unix nanoseconds
	// codes is the same for each status code.
	codes [codes.Unauthenticated + 1]atomic.Int64
}

// newExamples are those of a histogram with these upper bounds, none of which has an exemplar yet.
func newExamples(bounds []float64) *examples {
	return &examples{bounds: bounds, buckets: make([]atomic.Int64, len(bounds)+1)}
}

// lacks tells whether the bucket of a duration needs an exemplar.
func (e *examples) lacks(seconds float64, now time.Time) bool {
	// The index of the first bound that is not smaller, as Prometheus sorts into buckets.
	bucket, _ := slices.BinarySearch(e.bounds, seconds)
	return due(&e.buckets[bucket], now)
}

// lacksCode tells the same of a status code.
func (e *examples) lacksCode(
	code codes.Code,
	now time.Time,
) bool {
	return due(&e.codes[code], now)
}

// epoch is what intervals count from, by the monotonic clock, because the other one may be set. The
// first exemplars are due at once.
var epoch = time.Now().Add(-exampleInterval)

// due reports whether the last exemplar is old enough, and if so counts one now. Of calls that end
// at the same time one wins the swap.
func due(last *atomic.Int64, now time.Time) bool {
	before, at := last.Load(), int64(now.Sub(epoch))
	return at-before >= int64(exampleInterval) && last.CompareAndSwap(before, at)
}

// exemplar names the trace of a call.
func exemplar(span trace.SpanContext) prometheus.Labels {
	return prometheus.Labels{"trace_id": span.TraceID().String()}
}
