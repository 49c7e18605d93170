package telemetry

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Trust says of which peers the decision to record a trace holds, when it comes with a call or with
// a message.
type Trust string

// The values of Trust.
const (
	TrustAll  Trust = "all"  // of every peer
	TrustMTLS Trust = "mtls" // of clients with a certificate that was verified
	TrustNone Trust = "none"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Trust) UnmarshalText(text []byte) error {
	known := []Trust{TrustAll, TrustMTLS, TrustNone}
	if !slices.Contains(known, Trust(text)) {
		return fmt.Errorf("%q is none of %q", text, known)
	}
	*t = Trust(text)
	return nil
}

// of tells whether the peer of a call is trusted.
func (t Trust) of(ctx context.Context) bool {
	if t != TrustMTLS {
		return t == TrustAll
	}
	caller, _ := peer.FromContext(ctx)
	if caller == nil {
		return false
	}
	info, ok := caller.AuthInfo.(credentials.TLSInfo)
	return ok && len(info.State.VerifiedChains) > 0
}

// sampler decides which traces are recorded, as OTEL_TRACES_SAMPLER says. What a peer has decided
// is settled by admit, before a span is started below it.
type sampler struct {
	own sdktrace.Sampler // of traces that begin here
	// parentBased says that a span below another is recorded if that is. It is true by default, as in
	// OpenTelemetry.
	parentBased bool
	// trust says whose decision counts, see Trust.
	trust Trust
}

// The values of OTEL_TRACES_SAMPLER, and the prefix that the first three may have.
const (
	always, never, ratio = "always_on", "always_off", "traceidratio"
	parentBased          = "parentbased_"
)

// sampler is the one that the variables of OpenTelemetry name; by default it records all that
// begins here.
func (e environment) sampler(trust Trust) *sampler {
	s := &sampler{own: sdktrace.AlwaysSample(), parentBased: true, trust: trust}
	name := e.value("OTEL_TRACES_SAMPLER")
	if name == "" {
		return s
	}
	var own string
	// A name without the prefix does not look at a local parent.
	own, s.parentBased = strings.CutPrefix(name, parentBased)
	switch own {
	case never:
		s.own = sdktrace.NeverSample()
	case ratio:
		// Without an argument the ratio is 1, which is to record everything.
		if share := e.value("OTEL_TRACES_SAMPLER_ARG"); share != "" {
			number, _ := strconv.ParseFloat(share, 64) // Sanitize leaves no other.
			s.own = sdktrace.TraceIDRatioBased(number)
		}
	}
	return s
}

// ShouldSample implements sdktrace.Sampler.
func (s *sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	// This is the beginning of a trace, or a local parent does not count.
	if !s.follows(parent) {
		return s.own.ShouldSample(p)
	}
	result := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: parent.TraceState()}
	if parent.IsSampled() {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// follows tells whether a span below the parent is recorded if and only if the parent is.
func (s *sampler) follows(parent trace.SpanContext) bool {
	return parent.IsValid() && (s.parentBased || parent.IsRemote())
}

// Description implements sdktrace.Sampler.
func (s *sampler) Description() string {
	return fmt.Sprintf("%s,parentBased=%t,trust=%s", s.own.Description(), s.parentBased, s.trust)
}

// admit settles whether the trace that came with a call or a message is recorded here. The decision
// of a peer that is not trusted is replaced by our own, in which the trace's identifier has no
// part, since the peer has chosen it: other peers could have all of their calls recorded, or none.
// The identifier stays, and with it the way from the peer's log to ours.
func (s *sampler) admit(ctx context.Context) context.Context {
	// Without an exporter nothing is recorded, and the trace passes through as it came.
	if s == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return s.settle(ctx, s.trust.of(ctx))
}

// settle makes the decision about a remote trace one that spans below it can follow.
func (s *sampler) settle(ctx context.Context, trusted bool) context.Context {
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsRemote() || trusted && s.parentBased {
		return ctx
	}
	id := parent.TraceID()
	if !trusted {
		binary.BigEndian.PutUint64(
			id[8:],
			rand.Uint64(),
		) // the half by which OpenTelemetry's sampler decides
	}
	sampled := s.own.ShouldSample(
		sdktrace.SamplingParameters{ParentContext: ctx, TraceID: id},
	).Decision == sdktrace.RecordAndSample
	if sampled == parent.IsSampled() {
		return ctx
	}
	// It stays a remote parent, so that spans below it follow the decision, see follows.
	return trace.ContextWithRemoteSpanContext(
		ctx,
		parent.WithTraceFlags(parent.TraceFlags().WithSampled(sampled)),
	)
}

// skips tells whether a span would record nothing, so that none is needed. The
// identity of the trace passes through the context all the same.
func (s *side) skips(ctx context.Context) bool {
	if _, none := s.Tracer.(noop.Tracer); none || s.sampler == nil {
		return none
	}
	parent := trace.SpanContextFromContext(ctx)
	return s.sampler.follows(parent) && !parent.IsSampled()
}

// startSpan starts the span of a call. Its attributes are all set at the end,
// in one go and only if they are recorded; the samplers of OpenTelemetry do not
// look at them.
func (c *call) startSpan() {
	if c.side.sampler != nil &&
		!c.side.isServer { // A program that calls in a remote trace has put it there itself.
		c.ctx = c.side.sampler.settle(c.ctx, true)
	}
	if c.side.skips(c.ctx) {
		return
	}
	c.ctx, c.span = c.side.Tracer.Start(c.ctx, c.method.name, c.method.span...)
}
