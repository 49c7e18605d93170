package telemetry

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// newLogger makes the log: limits first, since what is left out need not be formatted, then the
// trace, then the format, and the budget where bytes are written.
func newLogger(cfg Config, to io.Writer) *slog.Logger {
	// ReplaceAttr sees each attribute before it is formatted.
	options := &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: fitLine}
	lines := newBudget(to)
	var handler slog.Handler = slog.NewTextHandler(lines, options)
	if cfg.LogFormat == "json" {
		handler = slog.NewJSONHandler(lines, options)
	}
	return slog.New(limited{traced{handler}, newLineKinds(), lines})
}

// traced adds the identifiers of the span in the context to every line, so
// that a line leads to its trace and a trace to its lines.
type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (h traced) Handle(ctx context.Context, line slog.Record) error {
	// A span that is not recorded has identifiers as well: the peer's log may have them.
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		line.AddAttrs(
			slog.String("trace_id", span.TraceID().String()),
			slog.String("span_id", span.SpanID().String()),
		)
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler. Without it the logger would lose the trace with its first
// attribute.
func (h traced) WithAttrs(
	attrs []slog.Attr,
) slog.Handler {
	return traced{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h traced) WithGroup(
	name string,
) slog.Handler {
	return traced{h.Handler.WithGroup(name)}
}

// StandardLog is a logger of Go's package log for a library that knows no other, such as an HTTP
// server. Its lines are of one kind, named by what writes them.
func StandardLog(to *slog.Logger, name string, level slog.Level) *log.Logger {
	return slog.NewLogLogger(named{to.Handler(), name}, level)
}

// named has what a library says as an attribute: its texts may be any number.
type named struct {
	slog.Handler
	name string
}

// Handle implements slog.Handler.
func (h named) Handle(ctx context.Context, line slog.Record) error {
	text := line.Message
	line.Message = h.name
	line.AddAttrs(slog.String("text", text))
	return h.Handler.Handle(ctx, line)
}

// severity ranks the end of a call. What a server could not do is a warning or an error. What a
// caller did wrong is a debug line of the server, whose counters by code show it too: a caller
// should not choose what the log of a server is about. On a client the same codes are answers that
// its program asked for, but for those which say that the program or its configuration has to be
// corrected: they are warnings there.
func severity(code codes.Code, isServer bool) slog.Level {
	switch code {
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	case codes.InvalidArgument, codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
		if !isServer {
			return slog.LevelWarn
		}
	default: // The call did what it is for, or found things other than its caller thought.
	}
	return slog.LevelDebug
}

// log writes the one line of the call, unless there were too many of its kind.
func (c *call) log(st *status.Status, err error, took time.Duration) {
	code := known(st.Code())
	level, fault := severity(code, c.side.isServer), faultIn(err)
	// A client at fault could otherwise fill the log with errors of the server, and a rollout with
	// warnings.
	if fault != "" {
		level = slog.LevelDebug
	}
	if c.side.quietCalls {
		return
	}
	suppressed, ok := c.side.lines.pass(c.method.lines[code], level)
	if !ok {
		return
	}
	// The bytes and messages of a call tell a stream that was cut from one that was never used.
	attrs := []slog.Attr{
		slog.String("method", c.name()),
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
	if suppressed > 0 {
		attrs = append(attrs, slog.Int64("suppressed", suppressed))
	}
	c.side.lines.LogAttrs(c.ctx, level, c.side.callLine(), append(attrs, c.remote()...)...)
}

// callLine is the text of the line, which is the same for all calls of a side.
func (s *side) callLine() string {
	if s.isServer {
		return "served call"
	}
	return "called"
}

// remote is the other end: for a server the peer's address, for a client the
// target it was given.
func (c *call) remote() []slog.Attr {
	if !c.side.isServer {
		return []slog.Attr{slog.String("target", c.target)}
	}
	if p, ok := peer.FromContext(c.ctx); ok {
		return []slog.Attr{slog.String("peer", p.Addr.String())}
	}
	return nil
}

// errorBurst is how many errors of OpenTelemetry are logged at once: each problem with its
// variables is logged once.
const errorBurst = 10

// ErrorHandler writes what goes wrong inside OpenTelemetry to the log, not all
// of it. OpenTelemetry knows only a process-wide handler, so the program has to
// pass this one to otel.SetErrorHandler.
func (t *Telemetry) ErrorHandler() otel.ErrorHandler {
	// The lines have a limit of their own here, so that only the budget of the log is left.
	lines, within := newLineLimit(errorBurst, rareInterval), withinBudget(t.Log)
	return otel.ErrorHandlerFunc(func(err error) {
		if suppressed, ok := within.pass(lines, slog.LevelWarn); ok {
			within.Warn("telemetry", "error", err, "suppressed", suppressed)
		}
	})
}
