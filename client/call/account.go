package call

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// maxResumeEvents bounds the events of a span: a transfer that takes days may be resumed very often.
const maxResumeEvents = 32

// account is what a download or an upload tells of itself, over all its attempts: a span above theirs, numbers, and a
// line in the log.
type account struct {
	log     *slog.Logger
	metrics *directionMetrics
	span    trace.Span
	name    string
	began   time.Time
	// resumes counts the attempts after the first.
	resumes int
}

func (c *Client) beginTransfer(ctx context.Context, metrics *directionMetrics, name string) (context.Context, *account) {
	ctx, span := c.options.Tracer.Start(ctx, metrics.name, trace.WithAttributes(attribute.String("quartet.object", name)))
	return ctx, &account{log: c.options.Log, metrics: metrics, span: span, name: name, began: time.Now()}
}

// resuming notes that there will be another attempt, and why.
func (a *account) resuming(cause error) {
	a.resumes++
	a.metrics.resumes.Inc()
	if a.resumes <= maxResumeEvents && a.span.IsRecording() {
		a.span.AddEvent("resume", trace.WithAttributes(
			semconv.ErrorTypeKey.String(errorType(cause)),
			attribute.String("quartet.cause", cause.Error()),
		))
	}
}

// end settles the transfer: the bytes that it moved, the checksum of the whole, and how it ended.
func (a *account) end(ctx context.Context, bytes int64, crc32c uint32, err error) {
	took := time.Since(a.began)
	a.count(ctx, bytes, took, err)
	if a.span.IsRecording() {
		a.span.SetAttributes(attribute.Int64("quartet.bytes", bytes), attribute.Int("quartet.resumes", a.resumes))
		if err == nil {
			a.span.SetAttributes(attribute.String("quartet.crc32c", hex(crc32c)))
		}
	}
	endSpan(a.span, err)
	a.logEnd(ctx, bytes, crc32c, took, err)
}

func (a *account) count(ctx context.Context, bytes int64, took time.Duration, err error) {
	switch {
	case err == nil:
		a.metrics.ok.Inc()
		if bytes >= rateFloor {
			a.metrics.rate.Observe(float64(bytes) / took.Seconds())
		}
	case errors.Is(ctx.Err(), context.Canceled):
		a.metrics.canceled.Inc()
	default:
		a.metrics.failed.Inc()
	}
}

// logEnd writes the line that leads from a transfer to its trace, by the trace_id that the logger takes from ctx.
func (a *account) logEnd(ctx context.Context, bytes int64, crc32c uint32, took time.Duration, err error) {
	attributes := []slog.Attr{
		slog.String("object", a.name), slog.Int64("bytes", bytes), slog.Int("resumes", a.resumes), slog.Duration("took", took),
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelInfo, a.metrics.name+" failed", append(attributes, slog.Any("error", err))...)
		return
	}
	a.log.LogAttrs(ctx, slog.LevelDebug, a.metrics.name+" done", append(attributes, slog.String("crc32c", hex(crc32c)))...)
}
