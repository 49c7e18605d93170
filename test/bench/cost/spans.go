package cost

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spans makes spans as a service does, samples and batches them, and then counts them where a
// service would export them. What an export costs is up to the collector and its network, and about
// the same for every variant.
type spans struct {
	share    float64
	provider *sdktrace.TracerProvider
	exported atomic.Int64
}

// sample takes a share of the calls that begin here, and decides as the caller did for those that
// come from elsewhere.
func sample(share float64) *spans {
	s := &spans{share: share}
	sampler := sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))
	s.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(s), sdktrace.WithSampler(sampler))
	return s
}

// variable is the same as an environment.
func (s *spans) variable(name string) string {
	return map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": fmt.Sprint(s.share)}[name]
}

// propagator is the one that ours has, for variants without one.
var propagator = propagation.NewCompositeTextMapPropagator(
	propagation.TraceContext{}, propagation.Baggage{},
)

// ExportSpans makes spans an exporter.
func (s *spans) ExportSpans(_ context.Context, batch []sdktrace.ReadOnlySpan) error {
	s.exported.Add(int64(len(batch)))
	return nil
}

// Shutdown is the other half of an exporter.
func (s *spans) Shutdown(context.Context) error { return nil }

func (s *spans) count(ctx context.Context) (int64, error) {
	err := s.provider.ForceFlush(ctx)
	return s.exported.Load(), err
}
