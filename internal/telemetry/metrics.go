package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// The labels and the names before them are those of go-grpc-prometheus, so
// that dashboards and rules written for it keep working. A label for all calls is added here, in
// the method struct and MethodLabelValues of method.go, and in docs/telemetry.md.
var methodLabels = []string{"grpc_type", "grpc_service", "grpc_method"}

// expectedCodes are counted from zero for every method, because the first
// error after a start would otherwise be invisible to rate(). They are success
// and what alerts and dashboards ask for; the others appear when they happen.
var expectedCodes = []codes.Code{
	codes.OK,
	codes.Canceled,
	codes.Unknown,
	codes.InvalidArgument,
	codes.DeadlineExceeded,
	codes.NotFound,
	codes.ResourceExhausted,
	codes.Aborted,
	codes.Unimplemented,
	codes.Internal,
	codes.Unavailable,
	codes.DataLoss,
}

// Bounds in seconds. A unary call ends within the client's 10 s. A stream may be a short download
// or a conversation of hours, because MaxConnectionAge does not end streams. Chunks follow each
// other within less than a millisecond, people talk every few seconds or minutes.
var (
	unaryBuckets  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	streamBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600}
	gapBuckets    = []float64{.0001, .001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300}
)

// callMetrics are the metrics of one side, server or client.
type callMetrics struct {
	name     string // the prefix of all names
	isServer bool

	arrived, retried         *prometheus.CounterVec // of a server
	started, handled         *prometheus.CounterVec
	msgReceived, msgSent     *prometheus.CounterVec
	bytesReceived, bytesSent *prometheus.CounterVec
	inFlight                 *prometheus.GaugeVec
	seconds                  map[kind]*prometheus.HistogramVec
	// first and gap are in seconds, and only of streams.
	first, gap  *prometheus.HistogramVec
	connections *connections
	handshakes  *handshakes // of a server
	// all are what Describe and Collect go through.
	all []prometheus.Collector
}

// newServerMetrics makes the metrics of a server, which counts more than a client does.
func newServerMetrics() *callMetrics {
	f := newCallMetrics("grpc_server", "grpc_code", "grpc_fault")
	f.isServer = true
	f.arrived = f.counter(
		"_arrived_total",
		"RPCs that reached the server, also those that were refused before they were started.",
	)
	f.handshakes = add(f, newHandshakes())
	f.retried = f.counter(
		"_retried_total",
		"RPCs that reached the server and were sent before, by grpc-previous-rpc-attempts.",
	)
	return f
}

// newClientMetrics makes the metrics of a client.
func newClientMetrics() *callMetrics { return newCallMetrics("grpc_client", "grpc_code") }

// newCallMetrics makes the metrics of a side; ended are the labels by which it counts how calls
// ended.
func newCallMetrics(name string, ended ...string) *callMetrics {
	f := &callMetrics{name: name}
	f.started = f.counter("_started_total", "RPCs started.")
	f.handled = f.counter("_handled_total", "RPCs ended, by status code.", ended...)
	f.msgReceived = f.counter("_msg_received_total", "Messages received, counted while the RPC runs.")
	f.msgSent = f.counter("_msg_sent_total", "Messages sent, counted while the RPC runs.")
	f.bytesReceived = f.counter(
		"_msg_received_bytes_total",
		"Bytes of the messages received, uncompressed and without framing.",
	)
	f.bytesSent = f.counter(
		"_msg_sent_bytes_total",
		"Bytes of the messages sent, uncompressed and without framing.",
	)
	f.inFlight = add(
		f,
		prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Name: name + "_in_flight", Help: "RPCs running now."},
			methodLabels,
		),
	)
	f.first = f.histogram(
		"_first_message_seconds",
		"Time from the start of a streaming RPC to the server's first message.",
		unaryBuckets,
		methodLabels,
		nil,
	)
	f.gap = f.gapHistogram()
	f.connections = add(f, newConnections(name))
	f.seconds = map[kind]*prometheus.HistogramVec{}
	for _, k := range kinds {
		f.seconds[k] = f.handlingSeconds(k)
	}
	return f
}

// add makes a metric one of the families.
func add[C prometheus.Collector](f *callMetrics, c C) C {
	f.all = append(f.all, c)
	return c
}

// counter makes a counter by method, and by the labels in more.
func (f *callMetrics) counter(name, help string, more ...string) *prometheus.CounterVec {
	return add(
		f,
		prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: f.name + name, Help: help},
			slices.Concat(methodLabels, more),
		),
	)
}

// histogram makes one by the labels, with classic and native buckets.
func (f *callMetrics) histogram(
	name, help string,
	buckets []float64,
	labels []string,
	fixed prometheus.Labels,
) *prometheus.HistogramVec {
	return add(f, prometheus.NewHistogramVec(WithNative(prometheus.HistogramOpts{
		Name:        f.name + name,
		Help:        help,
		ConstLabels: fixed,
		Buckets:     buckets,
	}), labels))
}

// WithNative adds a native histogram to the classic buckets of one. It is bounded, since callers
// choose how long calls last: with the factor 1.1, its 160 buckets span a factor of a million. When
// they do not suffice it starts anew, once an hour at most.
func WithNative(opts prometheus.HistogramOpts) prometheus.HistogramOpts {
	opts.NativeHistogramBucketFactor = 1.1
	opts.NativeHistogramMaxBucketNumber = 160
	opts.NativeHistogramMinResetDuration = time.Hour
	return opts
}

// gapHistogram has no native histogram: that would cost each message as much
// again as everything else that is counted of it.
func (f *callMetrics) gapHistogram() *prometheus.HistogramVec {
	return add(f, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    f.name + "_message_gap_seconds",
		Help:    "Time between two messages of a stream that follow each other.",
		Buckets: gapBuckets,
	}, methodLabels))
}

// handlingSeconds makes the histogram of one kind of RPC. The four share a name
// and differ in a constant label, which is how one metric gets two sets of
// bounds.
func (f *callMetrics) handlingSeconds(k kind) *prometheus.HistogramVec {
	return f.histogram(
		"_handling_seconds",
		"Time from the start of the RPC to its end.",
		boundsOf(k),
		methodLabels[1:],
		prometheus.Labels{"grpc_type": string(k)},
	)
}

// boundsOf are the classic buckets for the duration of a kind of RPC.
func boundsOf(k kind) []float64 {
	if k == unary {
		return unaryBuckets
	}
	return streamBuckets
}

// Describe and Collect make the families one collector.
func (f *callMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range f.all {
		c.Describe(to)
	}
}

// Collect is the other half of prometheus.Collector.
func (f *callMetrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range f.all {
		c.Collect(to)
	}
}
