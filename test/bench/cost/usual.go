package cost

import (
	"context"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// usual is what services usually ship: OpenTelemetry's stats handler for spans, and the
// interceptors of go-grpc-middleware for metrics, with histograms and exemplars as their
// documentation shows them.
func usual(s *spans) (*instruments, error) {
	in := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	out := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram())
	registry := prometheus.NewRegistry()
	registry.MustRegister(in, out)
	exemplars := grpcprom.WithExemplarFromContext(exemplar)
	tracing := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(s.provider), otelgrpc.WithPropagators(propagator),
	}
	return &instruments{
		server: []grpc.ServerOption{
			grpc.StatsHandler(otelgrpc.NewServerHandler(tracing...)),
			grpc.ChainUnaryInterceptor(in.UnaryServerInterceptor(exemplars)),
			grpc.ChainStreamInterceptor(in.StreamServerInterceptor(exemplars)),
		},
		client: []grpc.DialOption{
			grpc.WithStatsHandler(otelgrpc.NewClientHandler(tracing...)),
			grpc.WithChainUnaryInterceptor(out.UnaryClientInterceptor(exemplars)),
			grpc.WithChainStreamInterceptor(out.StreamClientInterceptor(exemplars)),
		},
		registry: registry,
		spans:    s,
	}, nil
}

func exemplar(ctx context.Context) prometheus.Labels {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		return prometheus.Labels{"trace_id": span.TraceID().String()}
	}
	return nil
}
