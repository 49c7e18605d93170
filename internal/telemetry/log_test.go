package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// lines parses what a JSON logger wrote.
func lines(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var parsed []map[string]any
	for text := range strings.Lines(out.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, line)
	}
	return parsed
}

func jsonLog(out *bytes.Buffer) *slog.Logger {
	return newLogger(Config{LogFormat: "json", LogLevel: slog.LevelDebug}, out)
}

// hidden is a status that keeps its cause from the client, as rpc makes it.
type hidden struct{ cause error }

func (h hidden) Error() string              { return "internal error" }
func (h hidden) Unwrap() error              { return h.cause }
func (h hidden) GRPCStatus() *status.Status { return status.New(codes.Internal, "internal error") }

func TestOneLinePerCall(t *testing.T) {
	tests := []struct {
		name, level string
		err         error
		cause       any
	}{
		{"success", "DEBUG", nil, nil},
		{"the client's fault", "DEBUG", status.Error(codes.NotFound, "no such object"), nil},
		{"out of capacity", "WARN", status.Error(codes.ResourceExhausted, "too many"), nil},
		{"what the client sent", "DEBUG", &ClientFault{status.New(codes.Internal, "no message of gRPC")}, nil},
		{"the drain", "DEBUG", &Ended{status.New(codes.Unavailable, "the server is stopping"), EndDrain}, nil},
		{"the server's fault", "ERROR", hidden{errors.New("disk is full")}, "disk is full"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			server, spans := recorded()
			server.Log = jsonLog(&out)
			s := &service{
				unary: func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
					return &grpc_testing.SimpleResponse{}, test.err
				},
			}
			p := start(t, s, server, Discard())
			_ = p.callUnary(testContext(t))
			p.settle()
			written := lines(t, &out)
			if len(written) != 1 {
				t.Fatalf("%d lines: %s", len(written), &out)
			}
			line := written[0]
			want := map[string]any{
				"level":          test.level,
				"method":         testServiceName + "/UnaryCall",
				"code":           status.Code(test.err).String(),
				"cause":          test.cause,
				"bytes_received": 104.0,
				"trace_id":       spans.Ended()[0].SpanContext().TraceID().String(),
				"span_id":        spans.Ended()[0].SpanContext().SpanID().String(),
			}
			for key, value := range want {
				if line[key] != value {
					t.Errorf("%s is %v, want %v", key, line[key], value)
				}
			}
			for _, key := range []string{"peer", "took", "received", "sent", "bytes_sent"} {
				if line[key] == nil {
					t.Errorf("%s is missing: %v", key, line)
				}
			}
		})
	}
}

func TestMistakesOfCallersAreDebugLinesOfTheServerAndWarningsOfTheClient(t *testing.T) {
	want := map[codes.Code][2]slog.Level{ // of the server, and of the client
		codes.OK:                 {slog.LevelDebug, slog.LevelDebug},
		codes.Canceled:           {slog.LevelDebug, slog.LevelDebug},
		codes.Unknown:            {slog.LevelError, slog.LevelError},
		codes.InvalidArgument:    {slog.LevelDebug, slog.LevelWarn},
		codes.DeadlineExceeded:   {slog.LevelWarn, slog.LevelWarn},
		codes.NotFound:           {slog.LevelDebug, slog.LevelDebug},
		codes.AlreadyExists:      {slog.LevelDebug, slog.LevelDebug},
		codes.PermissionDenied:   {slog.LevelDebug, slog.LevelWarn},
		codes.ResourceExhausted:  {slog.LevelWarn, slog.LevelWarn},
		codes.FailedPrecondition: {slog.LevelDebug, slog.LevelDebug},
		codes.Aborted:            {slog.LevelDebug, slog.LevelDebug},
		codes.OutOfRange:         {slog.LevelDebug, slog.LevelDebug},
		codes.Unimplemented:      {slog.LevelDebug, slog.LevelWarn},
		codes.Internal:           {slog.LevelError, slog.LevelError},
		codes.Unavailable:        {slog.LevelWarn, slog.LevelWarn},
		codes.DataLoss:           {slog.LevelError, slog.LevelError},
		codes.Unauthenticated:    {slog.LevelDebug, slog.LevelWarn},
	}
	for code := range codes.Unauthenticated + 1 {
		if got := [2]slog.Level{severity(code, true), severity(code, false)}; got != want[code] {
			t.Errorf("%v: %v, want %v", code, got, want[code])
		}
	}
}

// TestBuiltInServicesAreQuiet expects health checks and reflection to be counted, but
// to leave neither spans nor lines.
func TestBuiltInServicesAreQuiet(t *testing.T) {
	var out bytes.Buffer
	server, spans := recorded()
	server.Log = jsonLog(&out)
	calls := server.NewServerCalls()
	m := server.server.method(serverStream, "grpc.health.v1.Health", "Watch", trace.SpanKindServer)
	call := calls.side.arrive(context.Background(), m, "/grpc.health.v1.Health/Watch")
	call.begin()
	call.end(status.Error(codes.Internal, "broken"))
	if out.Len() != 0 || len(spans.Started()) != 0 {
		t.Errorf("%d spans and the lines %q", len(spans.Started()), &out)
	}
}

func TestLinesOutsideOfCallsHaveNoTrace(t *testing.T) {
	var out bytes.Buffer
	jsonLog(&out).With("part", "test").Info("hello")
	if line := lines(t, &out)[0]; line["trace_id"] != nil || line["part"] != "test" {
		t.Errorf("got %v", line)
	}
}

func TestErrorHandlerSaysItSometimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		telemetry := Discard()
		telemetry.Log = jsonLog(&out)
		handler := telemetry.ErrorHandler()
		for i := range 90 {
			handler.Handle(fmt.Errorf("export %d", i))
			time.Sleep(time.Second)
		}
		written := lines(t, &out)
		if len(written) != errorBurst+1 || written[errorBurst]["suppressed"] != 50.0 {
			t.Errorf("got %v", written)
		}
	})
}
