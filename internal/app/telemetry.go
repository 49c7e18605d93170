package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/grpclog"

	"example.com/quartet/internal/app/initlog"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
)

// NewTelemetry makes the telemetry of one of the product's programs, which exports what environ
// asks for. Its log becomes that of everything in the process that knows only a process-wide one:
// OpenTelemetry, grpc-go, and what uses Go's log or slog. They get it before they log anything.
func NewTelemetry(
	ctx context.Context,
	id Identity,
	program, version string,
	cfg telemetry.Config,
	environ []string,
	logTo io.Writer,
) *telemetry.Telemetry {
	t := telemetry.New(
		telemetry.Identity{Namespace: id.Namespace(), Service: id.Component(program), Version: version},
		cfg,
		logTo,
	)
	slog.SetDefault(t.Log)
	// Lines of Go's log package have no level; here they are warnings.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	otel.SetErrorHandler(t.ErrorHandler())
	otel.SetLogger(logr.FromSlogHandler(otelLog{t.Log.Handler()}))
	// lookup reads environ when it is called, and so sees the mended values, which are appended below.
	lookup := func(name string) string { return config.Lookup(environ, name) }
	for name, value := range t.Sanitize(lookup, checkCollector) {
		// Clip makes append copy, so that the array of the caller stays as it is.
		environ = append(slices.Clip(environ), name+"="+value)
		mendVariable(name, value)
	}
	// Nothing is exported before this, so that what was mended counts.
	t.Export(ctx, lookup)
	return t
}

// checkCollector returns an error unless text is an address to which OTLP can be exported.
func checkCollector(text string) error {
	_, err := config.ParseURL(text, "http", "https")
	return err
}

// mendVariable changes a variable of the process itself, since the SDK of OpenTelemetry reads the
// environment there and takes no values of ours. "" removes it.
func mendVariable(name, value string) {
	if value == "" {
		_ = os.Unsetenv(name) // It fails for malformed names only, as below.
		return
	}
	_ = os.Setenv(name, value)
}

// ExportUsage says in a help text how telemetry is exported.
const ExportUsage = "Traces are exported if OTEL_EXPORTER_OTLP_ENDPOINT is set, and metrics if OTEL_METRICS_EXPORTER is otlp.\n" +
	"docs/telemetry.md lists what other OTEL_ variables do."

// otelLog takes the lines of OpenTelemetry, whose warnings have verbosity 1, which logr makes the
// level -1.
type otelLog struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h otelLog) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, otelLevel(level))
}

// Handle implements slog.Handler. It copies the line without the attributes that may hold secrets.
func (h otelLog) Handle(ctx context.Context, line slog.Record) error {
	shown := slog.NewRecord(line.Time, otelLevel(line.Level), line.Message, line.PC)
	line.Attrs(func(attr slog.Attr) bool {
		if attr, ok := withoutSecrets(attr); ok {
			shown.AddAttrs(attr)
		}
		return true
	})
	return h.Handler.Handle(ctx, shown)
}

// withoutSecrets drops what OpenTelemetry has read from its variables, such as headers and
// addresses, and every attribute that is not known to be harmless.
func withoutSecrets(attr slog.Attr) (shown slog.Attr, ok bool) {
	switch attr.Value.Kind() {
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindUint64:
		return attr, true
	default: // It may be anything.
	}
	// The errors of package url and strconv quote what did not parse, which may be a token in a
	// header.
	if err, isError := attr.Value.Any().(error); isError {
		var address *url.Error
		var escape url.EscapeError
		var number *strconv.NumError
		switch {
		case errors.As(err, &address):
			return slog.String(attr.Key, "is no URL"), true
		case errors.As(err, &escape):
			return slog.String(attr.Key, "has a % that begins no %XX"), true
		case errors.As(err, &number):
			return slog.Any(attr.Key, number.Err), true
		default:
			return attr, true
		}
	}
	// These two hold the name of a file and of a variable, and help to find the mistake.
	return attr, attr.Key == "file" || attr.Key == "environment variable"
}

// otelLevel gives warnings of OpenTelemetry the level that they have in slog.
func otelLevel(level slog.Level) slog.Level {
	if level == -1 {
		return slog.LevelWarn
	}
	return level
}

// grpc-go looks at its logger without a lock, so that it has to be there before anything else of it
// is used.
func init() { //nolint:gochecknoinits // See above.
	grpclog.SetLoggerV2(grpcLog{})
	initlog.End() // What is discarded during initialisation has been logged by now.
}

// grpcLog writes what grpc-go says to the default logger. Its warnings are those of connections
// that fail, which are tried again: like what it calls information they are for an operator that
// looks for a mistake.
type grpcLog struct{}

// write logs a line if its level is enabled. print is called only then, since grpc-go says much at
// debug level.
func (grpcLog) write(level slog.Level, print func(...any) string, args ...any) {
	if log, ctx := slog.Default(), context.Background(); log.Enabled(ctx, level) {
		log.Log(ctx, level, "grpc", "text", strings.TrimSpace(print(args...)))
	}
}

// grpc-go's interface has each level in three forms, as Go's log package has them.
func (l grpcLog) Info(args ...any)      { l.write(slog.LevelDebug, fmt.Sprint, args...) }
func (l grpcLog) Infoln(args ...any)    { l.write(slog.LevelDebug, fmt.Sprintln, args...) }
func (l grpcLog) Warning(args ...any)   { l.write(slog.LevelDebug, fmt.Sprint, args...) }
func (l grpcLog) Warningln(args ...any) { l.write(slog.LevelDebug, fmt.Sprintln, args...) }
func (l grpcLog) Error(args ...any)     { l.write(slog.LevelError, fmt.Sprint, args...) }
func (l grpcLog) Errorln(args ...any)   { l.write(slog.LevelError, fmt.Sprintln, args...) }

// Fatal only logs: grpc-go ends the process itself afterwards.
func (l grpcLog) Fatal(
	args ...any,
) {
	l.write(slog.LevelError, fmt.Sprint, args...)
}
func (l grpcLog) Fatalln(args ...any) { l.write(slog.LevelError, fmt.Sprintln, args...) }

func (l grpcLog) Infof(format string, args ...any) {
	l.write(slog.LevelDebug, formatted(format), args...)
}
func (l grpcLog) Warningf(format string, args ...any) {
	l.write(slog.LevelDebug, formatted(format), args...)
}
func (l grpcLog) Errorf(format string, args ...any) {
	l.write(slog.LevelError, formatted(format), args...)
}
func (l grpcLog) Fatalf(format string, args ...any) {
	l.write(slog.LevelError, formatted(format), args...)
}

// formatted makes fmt.Sprintf with a format look like fmt.Sprint, which write takes.
func formatted(format string) func(...any) string {
	return func(args ...any) string { return fmt.Sprintf(format, args...) }
}

// V drops the more verbose levels of grpc-go.
func (grpcLog) V(verbosity int) bool { return verbosity <= 0 }
