package telemetry

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/interop/grpc_testing"
)

// TestDecisionTravels lets a client decide that a new trace is not sampled. The
// server knows the trace, for its log, and records nothing either.
func TestDecisionTravels(t *testing.T) {
	var inHandler trace.SpanContext
	s := &service{unary: func(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
		inHandler = trace.SpanContextFromContext(ctx)
		return &grpc_testing.SimpleResponse{}, nil
	}}
	client, _ := recorded(sdktrace.WithSampler(sdktrace.NeverSample()))
	server, inServer := recorded()
	p := start(t, s, server, client)
	if err := p.callUnary(testContext(t)); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if !inHandler.IsValid() || inHandler.IsSampled() || len(inServer.Started()) != 0 {
		t.Errorf("the handler has the trace %v, and %d spans were recorded", inHandler, len(inServer.Started()))
	}
}

// TestSamplerIsHonoured names every sampler that OTEL_TRACES_SAMPLER knows, and
// expects that a caller's decision against sampling is final for those only
// that say so.
func TestSamplerIsHonoured(t *testing.T) {
	for _, test := range []struct {
		sampler, argument string
		records           bool
	}{
		{"", "", false},
		{"always_on", "", true},
		{"always_off", "", false},
		{"traceidratio", "1", true},
		{"traceidratio", "0", false},
		{"parentbased_always_on", "", false},
		{"parentbased_always_off", "", false},
		{"parentbased_traceidratio", "1", false},
	} {
		t.Run(test.sampler+test.argument, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", test.sampler)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", test.argument)
			both, spans := recorded()
			p := start(t, &service{}, both, both)
			ctx, _ := unsampledParent(t)
			if err := p.callUnary(ctx); err != nil {
				t.Fatal(err)
			}
			p.settle()
			if got := len(spans.Ended()); got > 0 != test.records {
				t.Errorf("%d spans", got)
			}
		})
	}
}

// TestSmallRatioIsNoRefusal: a sampler that takes one trace in a million must
// be asked each time.
func TestSmallRatioIsNoRefusal(t *testing.T) {
	telemetry, _ := recorded(sdktrace.WithSampler(sdktrace.TraceIDRatioBased(1e-6)))
	if got := samplingOf(telemetry.Tracer); got.never || got.follows {
		t.Errorf("got %+v", got)
	}
}
