package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// TestDecisionTravels lets a client that is trusted decide that a new trace is not sampled. The
// server knows the trace, for its log, and records nothing either.
func TestDecisionTravels(t *testing.T) {
	var inHandler trace.SpanContext
	s := &service{
		unary: func(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			inHandler = trace.SpanContextFromContext(ctx)
			return &grpc_testing.SimpleResponse{}, nil
		},
	}
	client, _ := recorded(sdktrace.WithSampler(sdktrace.NeverSample()))
	server, inServer := sampled(samplerOf("", "", TrustAll))
	p := start(t, s, server, client)
	if err := p.callUnary(testContext(t)); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if !inHandler.IsValid() || inHandler.IsSampled() || len(inServer.Started()) != 0 {
		t.Errorf(
			"the handler has the trace %v, and %d spans were recorded",
			inHandler,
			len(inServer.Started()),
		)
	}
}

// TestSamplerIsHonoured names every sampler that OTEL_TRACES_SAMPLER knows, in a program that calls
// in a trace which is not sampled: that is final for those samplers only that say so.
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
		{"traceidratio", "NaN", true},
		{"traceidratio", "7", true},
		{"jaeger_remote", "", false},
		{" Traceidratio ", " 0 ", false},
	} {
		t.Run(test.sampler+test.argument, func(t *testing.T) {
			both, spans := sampled(samplerOf(test.sampler, test.argument, TrustAll))
			p := start(t, &service{}, both, both)
			ctx, _ := unsampledParent(t)
			if err := p.callUnary(ctx); err != nil {
				t.Fatal(err)
			}
			p.settle()
			if got, want := len(spans.Ended()), map[bool]int{true: 2}[test.records]; got != want {
				t.Errorf("%d spans, want %d", got, want)
			}
		})
	}
}

func samplerOf(name, argument string, trust Trust) *sampler {
	variables := lookup("OTEL_TRACES_SAMPLER="+name, "OTEL_TRACES_SAMPLER_ARG="+argument)
	sanitized := Discard().Sanitize(variables, anyURL)
	return environment{func(name string) string {
		if value, ok := sanitized[name]; ok {
			return value
		}
		return variables(name)
	}, slog.New(slog.DiscardHandler), nil}.sampler(trust)
}

// TestStrangersDoNotDecideWhatIsRecorded calls with every decision that a peer can send, in a trace
// whose identifier a ratio would always, or never, take.
func TestStrangersDoNotDecideWhatIsRecorded(t *testing.T) {
	const calls, ratio = 2000, "0.1"
	always, never := strings.Repeat("0", 15)+"1"+strings.Repeat("0", 16), strings.Repeat("f", 32)
	for _, sampler := range []string{"traceidratio", "parentbased_traceidratio"} {
		for _, id := range []string{always, never} {
			for _, flag := range []string{"00", "01"} {
				t.Run(fmt.Sprint(sampler, " ", id[:16], " ", flag), func(t *testing.T) {
					server, spans := sampled(samplerOf(sampler, ratio, TrustMTLS))
					p := start(t, &service{}, server, Discard())
					ctx := metadata.AppendToOutgoingContext(
						testContext(t),
						"traceparent",
						"00-"+id+"-00f067aa0ba902b7-"+flag,
					)
					for range calls {
						if err := p.callUnary(ctx); err != nil {
							t.Fatal(err)
						}
					}
					p.settle()
					// Five standard deviations on either side.
					if n := len(spans.Ended()); n < 133 || n > 267 {
						t.Errorf("%d of %d calls are recorded, want a tenth", n, calls)
					}
					for _, span := range spans.Ended() {
						if got := span.SpanContext().TraceID().String(); got != id {
							t.Fatalf("a span is in the trace %s, not in the caller's", got)
						}
					}
				})
			}
		}
	}
}

// TestSendersOfMessagesDoNotDecideWhatIsRecorded is the same for the trace that comes with a
// message.
func TestSendersOfMessagesDoNotDecideWhatIsRecorded(t *testing.T) {
	const messages = 2000
	for trust, want := range map[Trust][2]int{TrustMTLS: {133, 267}, TrustAll: {messages, messages}} {
		server, spans := sampled(samplerOf("parentbased_traceidratio", "0.1", trust))
		m := server.NewMessages(testContext(t), "room", "mallory")
		before := len(spans.Ended())
		for range messages {
			ctx := m.From(
				TraceContext{Traceparent: "00-" + strings.Repeat("1", 32) + "-00f067aa0ba902b7-01"},
			)
			_, span := m.Start(ctx, KeepMessage, "1", 1)
			span.End()
		}
		if n := len(spans.Ended()) - before; n < want[0] || n > want[1] {
			t.Errorf("trust in %s: %d of %d messages are recorded, want %v", trust, n, messages, want)
		}
	}
}

// TestTheDecisionOfATrustedCallerHolds for each kind of connection.
func TestTheDecisionOfATrustedCallerHolds(t *testing.T) {
	chain := [][]*x509.Certificate{{{}}}
	for name, c := range map[string]struct {
		info credentials.AuthInfo
		want map[Trust]bool
	}{
		"plaintext":                  {nil, map[Trust]bool{TrustAll: true}},
		"TLS without a certificate":  {credentials.TLSInfo{}, map[Trust]bool{TrustAll: true}},
		"TLS with one that is valid": {credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: chain}}, map[Trust]bool{TrustAll: true, TrustMTLS: true}},
	} {
		for _, trust := range []Trust{TrustAll, TrustMTLS, TrustNone, ""} {
			s := samplerOf("parentbased_always_off", "", trust)
			for _, flags := range []trace.TraceFlags{0, trace.FlagsSampled} {
				parent := trace.NewSpanContext(
					trace.SpanContextConfig{
						TraceID:    trace.TraceID{1},
						SpanID:     trace.SpanID{1},
						TraceFlags: flags,
						Remote:     true,
					},
				)
				ctx := peer.NewContext(
					trace.ContextWithSpanContext(t.Context(), parent),
					&peer.Peer{AuthInfo: c.info},
				)
				want := c.want[trust] && flags.IsSampled()
				if got := trace.SpanContextFromContext(s.admit(ctx)); got.IsSampled() != want ||
					got.TraceID() != parent.TraceID() {
					t.Errorf("%s, trust in %q, flags %v: %v, want sampled=%t", name, trust, flags, got, want)
				}
			}
		}
	}
}
