package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// The labels and the names before them are those of go-grpc-prometheus, so
// that dashboards and rules written for it keep working.
var methodLabels = []string{"grpc_type", "grpc_service", "grpc_method"}

// expectedCodes are counted from zero for every method, because the first
// error after a start would otherwise be invisible to rate(). They are success
// and what alerts and dashboards ask for; the others appear when they happen.
var expectedCodes = []codes.Code{
	codes.OK, codes.Canceled, codes.InvalidArgument, codes.DeadlineExceeded, codes.NotFound, codes.ResourceExhausted,
	codes.Aborted, codes.Internal, codes.Unavailable, codes.DataLoss,
}

// Bounds in seconds. A unary call ends within the client's 10 s; a stream may
// be a short download or a session, which MaxConnectionAge does not end.
var (
	unaryBuckets  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	streamBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600}
)

// families are the metrics of one side, server or client.
type families struct {
	started, handled         *prometheus.CounterVec
	msgReceived, msgSent     *prometheus.CounterVec
	bytesReceived, bytesSent *prometheus.CounterVec
	inFlight                 *prometheus.GaugeVec
	seconds                  map[kind]prometheus.ObserverVec
	all                      []prometheus.Collector
}

func newFamilies(side string) *families {
	f := &families{seconds: map[kind]prometheus.ObserverVec{}}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: side + name, Help: help}, append(methodLabels[:3:3], more...))
		f.all = append(f.all, vec)
		return vec
	}
	f.started = counter("_started_total", "RPCs started.")
	f.handled = counter("_handled_total", "RPCs ended, by status code.", "grpc_code")
	f.msgReceived = counter("_msg_received_total", "Messages received, counted while the RPC runs.")
	f.msgSent = counter("_msg_sent_total", "Messages sent, counted while the RPC runs.")
	f.bytesReceived = counter("_msg_received_bytes_total", "Bytes of the messages received, uncompressed and without framing.")
	f.bytesSent = counter("_msg_sent_bytes_total", "Bytes of the messages sent, uncompressed and without framing.")
	f.inFlight = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: side + "_in_flight", Help: "RPCs running now."}, methodLabels)
	f.all = append(f.all, f.inFlight)
	for _, k := range kinds {
		vec := newSeconds(side, k)
		f.seconds[k] = vec
		f.all = append(f.all, vec)
	}
	return f
}

// newSeconds makes the histogram of one kind of RPC. The four share a name and
// differ in a constant label, which is how one metric gets two sets of bounds.
// The native histogram is bounded, since callers choose how long calls last:
// at the factor 1.1 its 160 buckets span a factor of a million.
func newSeconds(side string, k kind) *prometheus.HistogramVec {
	buckets := streamBuckets
	if k == unary {
		buckets = unaryBuckets
	}
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            side + "_handling_seconds",
		Help:                            "Time from the start of the RPC to its end.",
		ConstLabels:                     prometheus.Labels{"grpc_type": string(k)},
		Buckets:                         buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}, methodLabels[1:])
}

// Describe and Collect make the families one collector.
func (f *families) Describe(to chan<- *prometheus.Desc) {
	for _, c := range f.all {
		c.Describe(to)
	}
}

// Collect is the other half of prometheus.Collector.
func (f *families) Collect(to chan<- prometheus.Metric) {
	for _, c := range f.all {
		c.Collect(to)
	}
}
