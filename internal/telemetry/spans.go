package telemetry

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spans counts what becomes of the spans that were recorded, and bounds how
// many of them wait for the collector.
type spans struct {
	exported, failed, dropped prometheus.Counter

	// pending is how many spans have ended and are not exported yet; limit is the size of the queue.
	pending atomic.Int64
	limit   int64
}

// newSpans registers the counters, at 0 also while no span is exported.
func newSpans(registry prometheus.Registerer) *spans {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "spans_" + name + "_total", Help: help})
		registry.MustRegister(c)
		return c
	}
	return &spans{
		exported: counter("exported", "Spans that reached the collector."),
		failed:   counter("failed", "Spans that the collector did not take."),
		dropped:  counter("dropped", "Spans dropped because too many were waiting for the collector."),
	}
}

// processor exports spans in batches. OpenTelemetry's own drops what does not
// fit into its queue and does not count them; the one in front of it lets no more
// through than fit.
func (s *spans) processor(
	exporter sdktrace.SpanExporter,
	options sdktrace.BatchSpanProcessorOption,
) sdktrace.SpanProcessor {
	batches := sdktrace.NewBatchSpanProcessor(
		countedExporter{exporter, s},
		options,
		func(o *sdktrace.BatchSpanProcessorOptions) {
			// The options run in order, so that this one sees what the one before it has set.
			s.limit = int64(o.MaxQueueSize)
		},
	)
	return boundedProcessor{batches, s}
}

// boundedProcessor drops spans, and counts them, before the queue of OpenTelemetry would.
type boundedProcessor struct {
	sdktrace.SpanProcessor
	spans *spans
}

// OnEnd implements sdktrace.SpanProcessor.
func (p boundedProcessor) OnEnd(span sdktrace.ReadOnlySpan) {
	switch {
	case !span.SpanContext().IsSampled(): // It would not be exported.
	// Several calls may end at once, so that counting comes before comparing.
	case p.spans.pending.Add(1) > p.spans.limit:
		p.spans.pending.Add(-1)
		p.spans.dropped.Inc()
	default:
		p.SpanProcessor.OnEnd(span)
	}
}

// countedExporter counts the spans that an exporter took, and those that it did not.
type countedExporter struct {
	sdktrace.SpanExporter
	spans *spans
}

// ExportSpans implements sdktrace.SpanExporter.
func (e countedExporter) ExportSpans(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, fitSpans(batch))
	// Whether they have arrived or not, they wait no more.
	e.spans.pending.Add(-int64(len(batch)))
	if err != nil {
		e.spans.failed.Add(float64(len(batch)))
		return err
	}
	e.spans.exported.Add(float64(len(batch)))
	return nil
}
