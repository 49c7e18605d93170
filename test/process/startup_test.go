package process_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	processtest.Clean()
	os.Exit(code)
}

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
