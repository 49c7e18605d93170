package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// run runs a program until it ends by itself, at most a minute, and returns its exit code and what it printed.
func run(t *testing.T, program string, arguments []string, env ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, processtest.Binary(t, program), arguments...)
	command.Dir = t.TempDir()
	command.Env = process.Environ(append([]string{
		process.Setting("LOG_FORMAT", "json"), process.Setting("GRPC_ADDRESS", "127.0.0.1:0"),
		process.Setting("PROBE_ADDRESS", "127.0.0.1:0"), process.Setting("HTTP_ADDRESS", "127.0.0.1:0"),
	}, env...)...)
	var printed bytes.Buffer
	command.Stdout, command.Stderr = &printed, &printed
	_ = command.Run() // The exit code says how it ended.
	return command.ProcessState.ExitCode(), printed.String()
}

// TestWhatCannotBeConfiguredEndsWithOneSentenceAndStatus2 names the variable in each case.
func TestWhatCannotBeConfiguredEndsWithOneSentenceAndStatus2(t *testing.T) {
	object, channel := process.Setting("OBJECT_URL", ""), process.Setting("CHANNEL_URL", "")
	for _, test := range []struct{ variable, name string }{
		{process.Setting("MEMORY_LIMIT", "1"), process.Setting("MEMORY_LIMIT", "")},
		{process.Setting("MEMORY_LIMIT", "100000"), process.Setting("MEMORY_LIMIT", "")},
		{process.Setting("OBJECT_MEMORY_BYTES", "1"), process.Setting("OBJECT_MEMORY_BYTES", "")},
		{process.Setting("RPC_MAX_RECEIVE_BYTES", "9223372036854775807"), process.Setting("RPC_MAX_RECEIVE_BYTES", "")},
		{process.Setting("RPC_BUFFER_BYTES", "9223372036854775807"), process.Setting("RPC_BUFFER_BYTES", "")},
		{"GOMEMLIMIT=1", process.Setting("OBJECT_MEMORY_BYTES", "")},
		{"GOMEMLIMIT=1MiB", process.Setting("OBJECT_MEMORY_BYTES", "")},
		{channel + "nats://h:99999", channel},
		{channel + "nats://", channel},
		{channel + "nats:4222", channel},
		{channel + "nats://a:1, nats://b:2", channel},
		{channel + "'nats://a:1'", channel},
		{object + "s3://b?region=x&endpoint=http://h:99999", object},
		{object + "s3://b?region=x&wrong=parameter", object},
	} {
		code, printed := run(t, "server", nil, test.variable)
		if name := strings.TrimSuffix(test.name, "="); code != 2 || !strings.Contains(printed, name) || strings.Contains(printed, "panic") {
			t.Errorf("%s: exit code %d: %s", test.variable, code, printed)
		}
	}
}

// TestEveryLineIsJSON has what libraries say before the program's log is there, or beside it. The server ends because one of its
// backends cannot be opened.
func TestEveryLineIsJSON(t *testing.T) {
	if reflect.TypeFor[process.Process]().PkgPath() > "go.opentelemetry.io" {
		t.Skip("OpenTelemetry is initialised before anything of this module, see package hush")
	}
	nowhere := process.Setting("OBJECT_URL", "s3://b?region=eu-central-1")
	for name, env := range map[string][]string{
		"credentials": {"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"},
		"limits":      {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=abc", "OTEL_SPAN_EVENT_COUNT_LIMIT=abc", "OTEL_ATTRIBUTE_COUNT_LIMIT=abc", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT=-5"},
		"limits with an endpoint": {
			"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=abc", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=otlp",
		},
		"debugging": {process.Setting("LOG_LEVEL", "debug"), "OTEL_BSP_MAX_QUEUE_SIZE=x", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
	} {
		code, printed := run(t, "server", nil, append([]string{nowhere, "AWS_EC2_METADATA_DISABLED=" + strconv.FormatBool(name != "credentials")}, env...)...)
		if code != 1 || printed == "" {
			t.Errorf("%s: exit code %d: %s", name, code, printed)
		}
		wantJSON(t, name, printed)
		for _, variable := range env {
			name, _, _ := strings.Cut(variable, "=")
			if strings.HasSuffix(name, "_LIMIT") && strings.Count(printed, `"`+name+`"`) != 1 {
				t.Errorf("%s is not logged once: %s", name, printed)
			}
		}
	}
}

// wantJSON expects each line to be JSON.
func wantJSON(t *testing.T, what, printed string) {
	t.Helper()
	for line := range strings.Lines(printed) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s: not JSON: %s", what, line)
		}
	}
}
