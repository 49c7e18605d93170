package object

import (
	"context"
	"errors"
	"log/slog"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// maxResumeEvents bounds the events of a span: a transfer that takes days may be resumed very
// often.
const maxResumeEvents = 32

// observer records a download or an upload over all its attempts: a span above theirs, metrics, and
// a line in the log.
type observer struct {
	telemetry *telemetry.Telemetry
	metrics   *directionMetrics
	span      trace.Span
	name      string
	began     time.Time
	// resumes counts the attempts after the first.
	resumes int
	// damaged counts the attempts in a row that damage has ended.
	damaged int
}

// maxDamaged bounds the attempts in a row that damage has ended. A server that is away comes back,
// but a path that damages everything is not expected to.
const maxDamaged = 10

// retriable tells of errors, beside those that say that the server is away, after which another
// attempt may succeed: it asks the server where to continue, or takes another writer's place.
func (o *observer) retriable(err error) bool {
	switch reason := rpc.Reason(err); {
	case reason == "OFFSET_MISMATCH", errors.Is(err, ErrChecksum):
		o.damaged++
		return o.damaged < maxDamaged
	default:
		return reason == "WRITER_REPLACED" // Which has a bound of its own.
	}
}

// beginTransfer begins the span of a transfer, below which its attempts will be. Its observer has
// to be ended.
func (c *Client) beginTransfer(
	ctx context.Context, metrics *directionMetrics, name string,
) (context.Context, *observer) {
	t := c.options.Telemetry
	ctx, span := t.Tracer.Start(ctx, metrics.name, trace.WithAttributes(t.Key("object").String(name)))
	return ctx, &observer{telemetry: t, metrics: metrics, span: span, name: name, began: time.Now()}
}

// resuming notes that there will be another attempt, and why.
func (o *observer) resuming(cause error) {
	o.resumes++
	o.metrics.resumes.Inc()
	if o.resumes <= maxResumeEvents && o.span.IsRecording() {
		o.span.AddEvent("resume", trace.WithAttributes(
			semconv.ErrorTypeKey.String(rpc.ErrorType(cause, sentinels...)),
			o.telemetry.Key("cause").String(cause.Error()),
		))
	}
}

// end records the end of the transfer: the bytes that it moved, the checksum of the whole, and how
// it ended.
func (o *observer) end(ctx context.Context, bytes int64, crc32c uint32, err error) {
	took := time.Since(o.began)
	o.count(ctx, bytes, took, err)
	if o.span.IsRecording() {
		o.span.SetAttributes(o.telemetry.Key("bytes").Int64(bytes),
			o.telemetry.Key("resumes").Int(o.resumes))
		if err == nil {
			o.span.SetAttributes(o.telemetry.Key("crc32c").String(checksum(crc32c)))
		}
	}
	rpc.EndSpan(o.span, err, sentinels...)
	o.logEnd(ctx, bytes, crc32c, took, err)
}

// count counts the end of a transfer. One that its caller cancelled is no failure, but one whose
// deadline passed is.
func (o *observer) count(ctx context.Context, bytes int64, took time.Duration, err error) {
	switch {
	case err == nil:
		o.metrics.ok.Inc()
		if bytes >= rateFloor {
			o.metrics.rate.Observe(float64(bytes) / took.Seconds())
		}
	case errors.Is(ctx.Err(), context.Canceled):
		o.metrics.canceled.Inc()
	default:
		o.metrics.failed.Inc()
	}
}

// logEnd writes the line that leads from a transfer to its trace, by the trace_id that the logger
// takes from ctx.
func (o *observer) logEnd(
	ctx context.Context, bytes int64, crc32c uint32, took time.Duration, err error,
) {
	attributes := []slog.Attr{
		slog.String("object", o.name), slog.Int64("bytes", bytes), slog.Int("resumes", o.resumes),
		slog.Duration("took", took),
	}
	if err != nil {
		o.telemetry.Log.LogAttrs(ctx, slog.LevelInfo, o.metrics.name+" failed",
			append(attributes, slog.Any("error", err))...)
		return
	}
	o.telemetry.Log.LogAttrs(ctx, slog.LevelDebug, o.metrics.name+" done",
		append(attributes, slog.String("crc32c", checksum(crc32c)))...)
}
