package telemetry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// Export sends spans and metrics to a collector, as far as the variables of OpenTelemetry ask for
// it; lookup is the value of one, or "". Without it no span is recorded, but trace contexts still
// pass through. It does not wait for the collector, and a dead one costs memory for at most 2048
// spans, or OTEL_BSP_MAX_QUEUE_SIZE.
//
// It returns no error: a failure is logged, and the process goes on without the export. It has to
// be called before calls are made, and after the variables are as Sanitize wants them and the
// process-wide error handler of OpenTelemetry is set.
func (t *Telemetry) Export(ctx context.Context, lookup func(name string) string) {
	env := newEnvironment(lookup, t.Log)
	// Calls carry traces on even if nothing is exported here.
	t.Propagator = env.propagator()
	spans, metrics := env.protocols()
	// Without an exporter there is nothing to describe a resource for, and the tracer stays the one
	// that does nothing.
	if spans == "" && metrics == "" {
		return
	}
	res := env.resource(ctx, t.identity)
	if spans != "" {
		// Spans and metrics do not depend on each other: one may fail.
		if err := t.exportSpans(ctx, spans, res, env); err != nil {
			t.Log.Warn("traces are not exported", "error", err)
		}
	}
	if metrics != "" {
		if err := t.exportMetrics(ctx, metrics, res); err != nil {
			t.Log.Warn("metrics are not exported", "error", err)
		}
	}
}

// exportSpans exports in batches from a bounded queue.
func (t *Telemetry) exportSpans(
	ctx context.Context,
	protocol string,
	res *resource.Resource,
	env environment,
) (err error) {
	// The exporters read addresses, headers and certificates from the environment themselves.
	var exporter sdktrace.SpanExporter
	if protocol == overHTTP {
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithProxy(t.proxy))
	} else {
		// Neither constructor waits for a connection.
		exporter, err = otlptracegrpc.New(ctx, otlptracegrpc.WithDialOption(t.dialOptions()...))
	}
	if err != nil {
		return err
	}
	provider := t.TraceTo(
		env.lookup,
		sdktrace.WithSpanProcessor(t.spans.processor(exporter, env.batches)),
		sdktrace.WithResource(res),
	)
	t.ends = append(t.ends, end(provider.Shutdown, exporter.Shutdown))
	return nil
}

// TraceTo has spans recorded as the options say, such as those of an exporter that Export does not
// know, and sampled as OTEL_TRACES_SAMPLER and Config say; lookup is the value of a variable, as
// far as Sanitize leaves it. It has to be called before calls are made. The caller shuts the
// provider down.
func (t *Telemetry) TraceTo(
	lookup func(name string) string,
	options ...sdktrace.TracerProviderOption,
) *sdktrace.TracerProvider {
	t.sampler = newEnvironment(lookup, t.Log).sampler(t.trust)
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSampler(t.sampler))...)
	t.Tracer = provider.Tracer(scope)
	return provider
}

// exportMetrics pushes what is in the registry every minute, or OTEL_METRIC_EXPORT_INTERVAL, and at
// the end.
func (t *Telemetry) exportMetrics(
	ctx context.Context,
	protocol string,
	res *resource.Resource,
) (err error) {
	var exporter sdkmetric.Exporter
	if protocol == overHTTP {
		exporter, err = otlpmetrichttp.New(ctx, otlpmetrichttp.WithProxy(t.proxy))
	} else {
		exporter, err = otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithDialOption(t.dialOptions()...))
	}
	if err != nil {
		return err
	}
	reader := sdkmetric.NewPeriodicReader(
		exporter,
		// The bridge reads the registry at each export, so that scraped and pushed numbers are the same.
		sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(classic{t.Registry}))),
	)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
	t.ends = append(t.ends, end(provider.Shutdown, exporter.Shutdown))
	return nil
}

// proxy is that of a request to the collector. In a cluster the variables of proxies are about the
// way out of it, and NO_PROXY seldom has the short names within: none is used unless it is asked
// for.
func (t *Telemetry) proxy(r *http.Request) (*url.URL, error) {
	if !t.proxied {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// dialOptions say the same to gRPC.
func (t *Telemetry) dialOptions() []grpc.DialOption {
	if t.proxied {
		return nil
	}
	return []grpc.DialOption{grpc.WithNoProxy()}
}

// end is the end of an export, within the time of its context.
func end(provider, exporter func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := provider(ctx)
		if err != nil {
			// The provider gave up waiting but still exports; this ends it.
			_ = exporter(ctx)
		}
		return err
	}
}

// Shutdown exports the spans that are still queued, and the last metrics. It
// returns when ctx is done even if the collector is dead, so ctx needs a
// deadline.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var ending sync.WaitGroup
	problems := make([]error, len(t.ends))
	for i, end := range t.ends {
		// Spans and metrics share the time, and a dead collector of one takes none of the other's.
		ending.Go(func() { problems[i] = end(ctx) })
	}
	ending.Wait()
	return errors.Join(problems...)
}

// classic is a registry as it is pushed: without exemplars, whose trace_id the bridge takes for the
// bytes that it stands for, so that collectors refuse them; and of histograms the classic buckets,
// which every collector knows and which are those that dashboards and alerts use, where the bridge
// prefers native ones.
type classic struct{ prometheus.Gatherer }

// Gather implements prometheus.Gatherer.
func (c classic) Gather() ([]*dto.MetricFamily, error) {
	families, err := c.Gatherer.Gather()
	// Gather returns messages of its own, which may be changed.
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.Counter != nil {
				m.Counter.Exemplar = nil
			}
			if h := m.Histogram; h != nil {
				// What is not copied here are the fields of native histograms.
				m.Histogram = &dto.Histogram{
					SampleCount:      h.SampleCount,
					SampleSum:        h.SampleSum,
					Bucket:           h.Bucket,
					CreatedTimestamp: h.CreatedTimestamp,
				}
			}
			for _, bucket := range m.GetHistogram().GetBucket() {
				bucket.Exemplar = nil
			}
		}
	}
	return families, err
}

// batches are the options of the queue, from the variables of OpenTelemetry. Its SDK panics for a
// negative size, and without a delay exports as fast as it can.
func (e environment) batches(o *sdktrace.BatchSpanProcessorOptions) {
	o.MaxQueueSize = e.number("OTEL_BSP_MAX_QUEUE_SIZE", sdktrace.DefaultMaxQueueSize, 1<<20)
	// A batch cannot be larger than the queue that it is taken from.
	o.MaxExportBatchSize = min(
		o.MaxQueueSize,
		e.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", sdktrace.DefaultMaxExportBatchSize, 1<<20),
	)
	o.BatchTimeout = e.milliseconds("OTEL_BSP_SCHEDULE_DELAY", sdktrace.DefaultScheduleDelay)
	o.ExportTimeout = e.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", sdktrace.DefaultExportTimeout)
}

// milliseconds is a duration of at most a day.
func (e environment) milliseconds(variable string, byDefault int) time.Duration {
	const day = 24 * time.Hour
	return time.Duration(e.number(variable, byDefault, int(day/time.Millisecond))) * time.Millisecond
}
