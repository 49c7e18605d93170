package clienttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// Collector takes the spans of a server in a process of its own, by OTLP over gRPC as any collector
// does.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string

	// mu guards spans, which Export appends to from goroutines of gRPC.
	mu    sync.Mutex
	spans []*tracepb.Span
}

// NewCollector starts a collector.
func NewCollector(t *testing.T) *Collector {
	t.Helper()
	c := &Collector{}
	c.address, _ = Serve(t, "", func(r grpc.ServiceRegistrar) { collectorpb.RegisterTraceServiceServer(r, c) })
	return c
}

// Environment has a server send its spans here, 50 ms after they ended at most instead of
// OpenTelemetry's default of 5 s, so that tests do not wait for them. more is added.
func (c *Collector) Environment(more ...string) []string {
	return append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.address, "OTEL_BSP_SCHEDULE_DELAY=50"}, more...)
}

// Export implements the collector's service.
func (c *Collector) Export(
	_ context.Context, r *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		// Spans come grouped by process and by library; tests want only the spans.
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// Wait returns the spans of a name once there are so many.
func (c *Collector) Wait(t *testing.T, name string, count int) []*tracepb.Span {
	t.Helper()
	var found []*tracepb.Span
	apptest.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		// DeleteFunc works on a copy, since other calls of Wait look for other names.
		found = slices.DeleteFunc(slices.Clone(c.spans), func(s *tracepb.Span) bool {
			return s.GetName() != name
		})
		return len(found) >= count
	}, func() string { return fmt.Sprintf("%d spans %q of the server, want %d", len(found), name, count) })
	return found
}

// Traced is telemetry that exports nothing, with a recorder of the spans that it makes.
func Traced() (*telemetry.Telemetry, *tracetest.SpanRecorder) {
	t, recorder := telemetry.Discard(), tracetest.NewSpanRecorder()
	// By default every trace that begins here is recorded.
	t.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	return t, recorder
}

// Spans returns the spans of a name that have ended, once there are so many: a span of a call ends
// after the call has returned to the test.
func Spans(
	t *testing.T, recorder *tracetest.SpanRecorder, name string, count int,
) []sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	apptest.Eventually(t, func() bool {
		found = slices.DeleteFunc(recorder.Ended(), func(s sdktrace.ReadOnlySpan) bool {
			return s.Name() != name
		})
		return len(found) >= count
	}, func() string { return fmt.Sprintf("%d spans %q, want %d", len(found), name, count) })
	return found
}

// Attributes has the attributes of a span as text.
func Attributes(span sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, kv := range span.Attributes() {
		all[string(kv.Key)] = kv.Value.String()
	}
	return all
}

// WantNumbers checks numbers as they are now, under the names that apptest.Numbers gives them. It
// is for what a client has counted when a call returns; apptest.WantNumbers waits for servers.
func WantNumbers(t *testing.T, tele *telemetry.Telemetry, want map[string]float64) {
	t.Helper()
	all := apptest.Numbers(t, tele)
	for name, value := range want {
		if got, found := all[name]; !found || got != value {
			t.Errorf("%s is %v (there: %v), want %v", name, got, found, value)
		}
	}
}
