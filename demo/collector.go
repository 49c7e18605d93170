package main

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// collector receives spans by OTLP, as any collector does, so that the traces lead somewhere
// without another program.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string
	stop    func()

	mu    sync.Mutex
	spans []span
}

// maxSpans bounds what the collector keeps: the traffic goes on for as long as the demo runs.
const maxSpans = 50_000

// span is what the demo shows of one.
type span struct {
	trace, id, parent string
	name, service     string
	kind              tracepb.Span_SpanKind
	start             time.Time
	took              time.Duration
	failed            bool
	numbers           map[string]int64
}

func startCollector(ctx context.Context) (*collector, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	c := &collector{address: listener.Addr().String(), stop: server.Stop}
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }() // It ends with stop.
	return c, nil
}

// Export takes spans in.
func (c *collector) Export(
	_ context.Context, r *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		service := text(resource.GetResource().GetAttributes(), "service.name")
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				if len(c.spans) < maxSpans {
					c.spans = append(c.spans, convert(service, s))
				}
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// snapshot is what has come so far.
func (c *collector) snapshot() []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

func convert(service string, s *tracepb.Span) span {
	numbers := map[string]int64{}
	for _, a := range s.GetAttributes() {
		if n, ok := a.GetValue().GetValue().(*commonpb.AnyValue_IntValue); ok {
			numbers[a.GetKey()] = n.IntValue
		}
	}
	return span{
		trace:   hex.EncodeToString(s.GetTraceId()),
		id:      hex.EncodeToString(s.GetSpanId()),
		parent:  hex.EncodeToString(s.GetParentSpanId()),
		name:    s.GetName(),
		service: service,
		kind:    s.GetKind(),
		start:   time.Unix(0, int64(s.GetStartTimeUnixNano())),
		took:    time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()),
		failed:  s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		numbers: numbers,
	}
}

func text(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
