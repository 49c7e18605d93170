package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// run runs a program until it ends by itself, at most a minute, and returns its exit code and what
// it printed.
func run(
	t *testing.T,
	program string,
	arguments []string,
	env ...string,
) (code int, output string) {
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
	for _, test := range []struct{ name, value string }{
		{"MEMORY_LIMIT", "1"}, {"MEMORY_LIMIT", "100000"},
		{"RPC_MAX_RECEIVE_BYTES", "9223372036854775807"}, {"RPC_BUFFER_BYTES", "9223372036854775807"},
	} {
		setting := process.Setting(test.name, test.value)
		code, printed := run(t, "server", nil, setting)
		if name, _, _ := strings.Cut(setting, "="); code != 2 || !strings.Contains(printed, name+"=") ||
			strings.Contains(printed, "panic") {
			t.Errorf("%s: exit code %d: %s", setting, code, printed)
		}
	}
}

// TestVariablesOfOneProgramDoNotStopTheOther has both read one file of settings, as a shell exports
// it. The server ends because its port is taken, and the client because there is no server.
func TestVariablesOfOneProgramDoNotStopTheOther(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	both := []string{
		process.Setting("SERVER", "127.0.0.1:1"),
		process.Setting("GRPC_ADDRESS", taken.Addr().String()),
	}
	if code, printed := run(t, "server", nil, both...); code != 1 {
		t.Errorf("server: exit code %d: %s", code, printed)
	}
	if code, printed := run(t, "client", []string{"check", "--timeout", "1s"}, both...); code != 4 {
		t.Errorf("client: exit code %d: %s", code, printed)
	}
	for program, arguments := range map[string][]string{"server": nil, "client": {"check"}} {
		code, printed := run(t, program, arguments, process.Setting("SERVRE", "127.0.0.1:1"))
		if code != 2 || !strings.Contains(printed, "no such variable") {
			t.Errorf("%s with a mistyped name: exit code %d: %s", program, code, printed)
		}
	}
}

// TestEveryLineIsJSON has what libraries say before the program's log is there. The server ends
// because its port is taken.
func TestEveryLineIsJSON(t *testing.T) {
	if reflect.TypeFor[process.Process]().PkgPath() > "go.opentelemetry.io" {
		t.Skip("OpenTelemetry is initialised before anything of this module, see package hush")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for name, env := range map[string][]string{
		"limits":                  {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=abc", "OTEL_SPAN_EVENT_COUNT_LIMIT=abc", "OTEL_ATTRIBUTE_COUNT_LIMIT=abc", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT=-5"},
		"limits with an endpoint": {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=abc", endpoint, "OTEL_METRICS_EXPORTER=otlp"},
		"debugging":               {process.Setting("LOG_LEVEL", "debug"), "OTEL_BSP_MAX_QUEUE_SIZE=x", endpoint},
	} {
		code, printed := run(
			t,
			"server",
			nil,
			append(env, process.Setting("GRPC_ADDRESS", taken.Addr().String()))...)
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
