package traffic

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/telemetry"
)

// metrics count operations under the labels that calls have. All are there from the start, since a
// counter that appears with its first bad operation hides that one from rate().
type metrics struct {
	// operations has the verdict of each operation as its last label: good or bad.
	operations *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

// methodMetrics are those of one kind of operation.
type methodMetrics struct {
	good, bad prometheus.Counter
	seconds   prometheus.Observer
}

// newMetrics registers the metrics, with all labels of the sources' operations at zero.
func newMetrics(registerer prometheus.Registerer, sources []Source) metrics {
	register := promauto.With(registerer)
	m := metrics{
		operations: register.NewCounterVec(prometheus.CounterOpts{
			Name: "traffic_operations_total",
			Help: "Operations of the steady traffic whose answer was verified: good if it was right, bad if it was wrong, late or an error.",
		}, append(telemetry.MethodLabels(), "verdict")),
		seconds: register.NewHistogramVec(telemetry.WithNative(prometheus.HistogramOpts{
			Name:    "traffic_operation_seconds",
			Help:    "Time of an operation of the steady traffic, with all its retries and resumes.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}), telemetry.MethodLabels()),
	}
	for _, source := range sources {
		for _, operation := range source.Operations {
			// With the labels the series come into being.
			m.of(source.Service, operation.Method)
		}
	}
	return m
}

// of returns the metrics of a method. The service has to have it: the labels come from its
// descriptor.
func (m metrics) of(service protoreflect.ServiceDescriptor, method string) methodMetrics {
	labels := telemetry.MethodLabelValues(service.Methods().ByName(protoreflect.Name(method)))
	return methodMetrics{
		good:    m.operations.WithLabelValues(append(slices.Clip(labels), "good")...),
		bad:     m.operations.WithLabelValues(append(slices.Clip(labels), "bad")...),
		seconds: m.seconds.WithLabelValues(labels...),
	}
}
