package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc/grpclog"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

// output is what a program has printed so far.
type output struct{ telemetrytest.Log }

// lines are its lines, each of which has to be JSON.
func (o *output) lines(t *testing.T) (parsed []map[string]any) {
	t.Helper()
	for text := range strings.Lines(o.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Errorf("not JSON: %s", text)
		}
		parsed = append(parsed, line)
	}
	return parsed
}

// observed is a program's telemetry, with the variables "A=1" of OpenTelemetry, and what it prints.
// The process-wide loggers are put back at the end.
func observed(t *testing.T, level slog.Level, variables ...string) *output {
	t.Helper()
	before, writer, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(writer)
		log.SetFlags(flags)
	})
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	out := &output{}
	made := NewTelemetry(
		t.Context(),
		Identity{Name: "test"},
		"program",
		"v1",
		telemetry.Config{LogLevel: level, LogFormat: "json"},
		variables,
		out,
	)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = made.Shutdown(
			ctx,
		) // No collector is there. Later than the deadline, the SDK would end nothing.
	})
	return out
}

// TestWhatMakesNoSenseInAVariableIsLoggedOnce has traces and metrics exported, so that the SDK of
// OpenTelemetry reads all that it would read.
func TestWhatMakesNoSenseInAVariableIsLoggedOnce(t *testing.T) {
	file := t.TempDir() + "/nothing.pem"
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := []string{
		"OTEL_TRACES_SAMPLER=parentbased_ratio",
		"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=half",
		"OTEL_TRACES_SAMPLER=,",
		"OTEL_RESOURCE_ATTRIBUTES=team",
		"OTEL_RESOURCE_ATTRIBUTES=team=%zz",
		"OTEL_RESOURCE_ATTRIBUTES=team=a,",
		"OTEL_BSP_MAX_QUEUE_SIZE=-1",
		"OTEL_TRACES_EXPORTER=,",
		"OTEL_TRACES_EXPORTER=otlp,",
		"OTEL_TRACES_EXPORTER=jaeger",
		"OTEL_METRICS_EXPORTER=otlp,,none",
		"OTEL_PROPAGATORS=,",
		"OTEL_SDK_DISABLED=,",
		"OTEL_METRIC_EXPORT_INTERVAL=-1",
		"OTEL_METRIC_EXPORT_INTERVAL=soon",
		"OTEL_METRIC_EXPORT_TIMEOUT=0",
		"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=sideways",
		"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=none",
		"OTEL_EXPORTER_OTLP_PROTOCOL=thrift",
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
		"OTEL_TRACES_EXPORTER=zipkin,zipkin",
	}
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_METRICS_"} {
		for _, setting := range []string{
			"COMPRESSION=brotli", "COMPRESSION=1", "TIMEOUT=-5", "TIMEOUT=0", "TIMEOUT=soon", "TIMEOUT=1e3", "TIMEOUT=99999999999999999999", "INSECURE=maybe",
			"CERTIFICATE=/no/such/file", "CERTIFICATE=" + file, "CLIENT_KEY=/nope", "CLIENT_CERTIFICATE=/nope", "CLIENT_KEY=" + file,
			"CLIENT_CERTIFICATE=" + file + " " + prefix + "CLIENT_KEY=" + file, "HEADERS=a", "HEADERS=a=b,", "HEADERS=a=%zz", "HEADERS=a/b=c",
			"ENDPOINT=collector:4317", "ENDPOINT=http://", "ENDPOINT=http:///x", "ENDPOINT=http://[::1", "ENDPOINT=http://127.0.0.1:99999",
			"ENDPOINT=http://me:hush@:4317", "ENDPOINT=tcp://collector:4317", "ENDPOINT=unix:", "ENDPOINT='http://collector:4317'", "ENDPOINT=http://a..b:1",
		} {
			variables = append(variables, prefix+setting)
		}
	}
	for _, name := range []string{
		"SPAN_ATTRIBUTE_VALUE_LENGTH", "ATTRIBUTE_VALUE_LENGTH", "SPAN_ATTRIBUTE_COUNT", "ATTRIBUTE_COUNT", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT",
		"EVENT_ATTRIBUTE_COUNT", "LINK_ATTRIBUTE_COUNT",
	} {
		for _, value := range []string{"abc", "-5", "1.5", "99999999999999999999"} {
			variables = append(variables, "OTEL_"+name+"_LIMIT="+value)
		}
	}
	for _, variable := range variables {
		t.Run(variable, func(t *testing.T) {
			out := observed(
				t,
				slog.LevelInfo,
				append(
					[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=otlp"},
					strings.Fields(variable)...)...)
			written := out.lines(t)
			if name, _, _ := strings.Cut(variable, "="); len(written) != 1 ||
				!strings.Contains(fmt.Sprint(written[0]["variable"]), name) &&
					!strings.Contains(variable, fmt.Sprint(written[0]["variable"])) ||
				strings.Contains(out.String(), "hush") {
				t.Errorf("the log has %s", out)
			}
		})
	}
}

func TestEveryLineOfALibraryIsOneOfTheLog(t *testing.T) {
	for _, test := range []struct {
		name  string
		say   func()
		level string
		text  string
	}{
		{"log", func() { log.Print("an old line") }, "WARN", "an old line"},
		{"slog", func() { slog.Info("a line") }, "INFO", "a line"},
		{"OpenTelemetry", func() { otel.Handle(errors.New("no collector")) }, "WARN", "no collector"},
		{"grpc error", func() { grpclog.Error("an", "error") }, "ERROR", "anerror"},
		{"grpc errorf", func() { grpclog.Errorf("error %d of\ntwo", 1) }, "ERROR", `error 1 of\ntwo`},
		{"grpc errorln", func() { grpclog.Errorln("an", "error") }, "ERROR", "an error"},
		{"grpc component", func() { grpclog.Component("core").Errorf("error %d", 1) }, "ERROR", "[core] error 1"},
		{"grpc warning", func() { grpclog.Warning("lost") }, "DEBUG", "lost"},
		{"grpc warningf", func() { grpclog.Warningf("lost %d", 1) }, "DEBUG", "lost 1"},
		{"grpc warningln", func() { grpclog.Warningln("lost", 1) }, "DEBUG", "lost 1"},
		{"grpc info", func() { grpclog.Info("connected") }, "DEBUG", "connected"},
		{"grpc infof", func() { grpclog.Infof("connected %d", 1) }, "DEBUG", "connected 1"},
		{"grpc infoln", func() { grpclog.Infoln("connected", 1) }, "DEBUG", "connected 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: test.level != "DEBUG"} {
				out := observed(t, level)
				test.say()
				written := out.lines(t)
				if len(written) > 1 || (len(written) == 1) != want {
					t.Errorf("at %v %d lines: %v", level, len(written), written)
				}
				if want &&
					(written[0]["level"] != test.level || !strings.Contains(out.String(), test.text)) {
					t.Errorf("the line is %s", out)
				}
			}
		})
	}
}

// failing is a listener that fails once as one does without file descriptors, and then for good.
type failing struct {
	net.Listener
	failed bool
}

type tooManyFiles struct{ error }

func (tooManyFiles) Timeout() bool   { return false }
func (tooManyFiles) Temporary() bool { return true }

func (l *failing) Accept() (net.Conn, error) {
	if l.failed {
		return nil, net.ErrClosed
	}
	l.failed = true
	return nil, tooManyFiles{errors.New("too many open files")}
}

func (l *failing) Close() error   { return nil }
func (l *failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestTheHTTPServerSaysInTheLogWhatFails(t *testing.T) {
	out := &output{}
	err := serveHTTP(
		"http",
		&failing{},
		http.NotFoundHandler(),
		metricsTimes,
		time.Second,
		slog.New(slog.NewJSONHandler(out, nil)),
	).run(
		t.Context(),
	)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
	if written := out.lines(t); len(written) != 1 || written[0]["msg"] != "http" ||
		!strings.Contains(fmt.Sprint(written[0]["text"]), "http: Accept error") {
		t.Errorf("the log has %v", written)
	}
}

// TestADeadCollectorFailsNoCleanStop also expects that everything that a server prints is JSON.
func TestADeadCollectorFailsNoCleanStop(t *testing.T) {
	observed(t, slog.LevelInfo) // It puts the loggers back.
	environ := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1",
		"OTEL_METRICS_EXPORTER=otlp",
		"OTEL_TRACES_SAMPLER=parentbased_ratio",
		"OTEL_RESOURCE_ATTRIBUTES=team",
		"OTEL_BSP_MAX_QUEUE_SIZE=-1",
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	environ = append(
		environ,
		"TEST_LOG_FORMAT=json",
		"TEST_GRPC_ADDRESS=127.0.0.1:0",
		"TEST_PROBE_ADDRESS=127.0.0.1:0",
		"TEST_HTTP_ADDRESS=127.0.0.1:0",
		"TEST_DRAIN_BUDGET=6s",
		"TEST_DRAIN_DELAY=0s",
	)
	ctx, stop := context.WithCancel(t.Context())
	out, ended := &output{}, make(chan int, 1)
	go func() {
		ended <- Server{Identity: Identity{Name: "test"}}.main(ctx, []string{"server"}, environ, out, out)
	}()
	for says(out, "listening") == nil && t.Context().Err() == nil {
		runtime.Gosched()
	}
	stop()
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
	for _, text := range []string{"parentbased_ratio", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_BSP_MAX_QUEUE_SIZE", "is not exported"} {
		if says(out, text) == nil {
			t.Errorf("the log has no %q", text)
		}
	}
	for _, line := range out.lines(t) {
		if line["level"] == "ERROR" {
			t.Errorf("the log has %v", line)
		}
	}
}

// says is the first line with a text, nil if there is none yet.
func says(out *output, text string) []byte {
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, text) {
			return []byte(line)
		}
	}
	return nil
}

// TestAProblemOfAServiceIsOneOfTheConfiguration has a service that finds a mistake only when it is
// opened.
func TestAProblemOfAServiceIsOneOfTheConfiguration(t *testing.T) {
	observed(t, slog.LevelInfo) // It puts the loggers back.
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{config.Problem(errors.New("SIZE: is too small")), 2, "TEST_GUEST_SIZE: is too small"},
		{errors.New("SIZE: is too small"), 1, "open guest: SIZE: is too small"},
	} {
		service := Service{Name: "guest", Config: &struct {
			Size string `env:"SIZE"`
		}{}, Open: func(context.Context, Host) (Opened, error) { return Opened{}, test.err }}
		environ := []string{
			"TEST_LOG_FORMAT=json",
			"TEST_GRPC_ADDRESS=127.0.0.1:0",
			"TEST_PROBE_ADDRESS=127.0.0.1:0",
			"TEST_HTTP_ADDRESS=127.0.0.1:0",
		}
		out := &output{}
		status := Server{
			Identity: Identity{Name: "test"},
			Services: []Service{service},
		}.main(
			t.Context(),
			[]string{"server"},
			environ,
			out,
			out,
		)
		if written := out.lines(t); status != test.status || len(written) != 1 ||
			!strings.Contains(fmt.Sprint(written[0]["error"]), test.text) {
			t.Errorf("status %d, and the log has %v", status, written)
		}
	}
}
