package object

import (
	"context"
	"net"
	"sync/atomic"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// collector takes the spans that our programs export, counts them, and drops them.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	server *grpc.Server
	url    string
	spans  atomic.Int64
}

func startCollector(ctx context.Context) (*collector, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &collector{server: grpc.NewServer(), url: "http://" + listener.Addr().String()}
	collectorpb.RegisterTraceServiceServer(c.server, c)
	go func() { _ = c.server.Serve(listener) }() // It ends with stop.
	return c, nil
}

func (c *collector) stop() { c.server.Stop() }

// Export is OpenTelemetry's.
func (c *collector) Export(
	_ context.Context, r *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	for _, resource := range r.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans.Add(int64(len(scope.GetSpans())))
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}
