package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func newLogger(cfg Config, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: fitLine}
	if cfg.LogFormat == "json" {
		return slog.New(traced{slog.NewJSONHandler(to, options)})
	}
	return slog.New(traced{slog.NewTextHandler(to, options)})
}

// traced adds the identifiers of the span in the context to every line, so
// that a line leads to its trace and a trace to its lines.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, line slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		line.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, line)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

// severity ranks the end of a call: what the caller did wrong is for whoever
// looks, what the server could not do is for whoever is on duty.
func severity(code codes.Code) slog.Level {
	switch code {
	case codes.OK:
		return slog.LevelDebug
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// log writes the one line of the call.
func (c *call) log(st *status.Status, err error, took time.Duration) {
	level, fault := severity(st.Code()), faultIn(err)
	if fault != "" {
		level = min(level, slog.LevelInfo)
	}
	if c.side.quietCalls || !c.side.Log.Enabled(c.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", c.name),
		slog.String("code", st.Code().String()),
		slog.Duration("took", took),
		slog.Int64("sent", c.sent.messages.Load()),
		slog.Int64("received", c.received.messages.Load()),
		slog.Int64("bytes_sent", c.sent.bytes.Load()),
		slog.Int64("bytes_received", c.received.bytes.Load()),
	}
	if st.Message() != "" {
		attrs = append(attrs, slog.String("message", st.Message()))
	}
	if fault != "" {
		attrs = append(attrs, slog.String("fault", fault))
	}
	// A status that hides its cause from the client wraps it.
	if cause := errors.Unwrap(err); cause != nil {
		attrs = append(attrs, slog.Any("cause", cause))
	}
	c.side.Log.LogAttrs(c.ctx, level, c.side.callLine(), append(attrs, c.remote()...)...)
}

func (s *side) callLine() string {
	if s.isServer {
		return "served call"
	}
	return "called"
}

// remote is the other end: for a server the peer's address, for a client the
// target it was told.
func (c *call) remote() []slog.Attr {
	if !c.side.isServer {
		return []slog.Attr{slog.String("target", c.target)}
	}
	if p, ok := peer.FromContext(c.ctx); ok {
		return []slog.Attr{slog.String("peer", p.Addr.String())}
	}
	return nil
}

// lineInterval is the time between two log lines about what may fail every few seconds, for hours.
const lineInterval = time.Minute

// lineLimit lets some lines pass at once, and after them one for each lineInterval.
type lineLimit struct {
	*rate.Limiter
	suppressed atomic.Int64
}

func newLineLimit(burst int) *lineLimit {
	return &lineLimit{Limiter: rate.NewLimiter(rate.Every(lineInterval), burst)}
}

// pass tells whether a line may be written, and how many were not since the last one.
func (l *lineLimit) pass() (suppressed int64, ok bool) {
	if !l.Allow() {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}

// errorBurst is how many errors of OpenTelemetry are logged at once: what is wrong with its variables is told once each.
const errorBurst = 10

// ErrorHandler writes what goes wrong inside OpenTelemetry to the log, not all
// of it. OpenTelemetry knows only a process-wide handler, so the program has to
// pass this one to otel.SetErrorHandler.
func (t *Telemetry) ErrorHandler() otel.ErrorHandler {
	lines := newLineLimit(errorBurst)
	return otel.ErrorHandlerFunc(func(err error) {
		if suppressed, ok := lines.pass(); ok {
			t.Log.Warn("telemetry", "error", err, "suppressed", suppressed)
		}
	})
}
