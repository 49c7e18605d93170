package process_test

import (
	"io"
	"strings"
	"syscall"
	"testing"

	"example.com/quartet/test/process/processtest"
)

// TestAResultThatCannotBeWrittenIsAFailure has what the program itself writes meet a device that is
// full.
func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	server := processtest.Start(t)
	wantLost(
		t,
		server.Address,
		"check",
		"check --json",
		"demo",
		"load --duration 100ms",
		"--help",
		"help",
		"check --help",
		"help environment",
		"--version",
		"completion bash",
	)
}

// wantLost wants commands to fail whose results meet a device that is full.
func wantLost(t *testing.T, address string, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if output := processtest.Shell(t, 1, address,
			"client "+command+" >/dev/full"); !strings.Contains(output, "no space left on device") {
			t.Errorf("%s: %s", command, output)
		}
	}
}

// wantClosed wants commands to fail that have no standard output.
func wantClosed(t *testing.T, address string, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if output := processtest.Shell(t, 1, address, "client "+command+" >&-"); !strings.Contains(output,
			"standard output is closed") {
			t.Errorf("%s: %s", command, output)
		}
	}
}

// wantObedient wants a command to obey its timeout and signals while it is blocked, which it is
// when block returns. hint is what it says besides.
func wantObedient(
	t *testing.T,
	hint string,
	block func(t *testing.T, more ...string) *processtest.Client,
) {
	t.Helper()
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		// It counts from the start of the program, which has to be blocked by then.
		block(t, "--timeout", "10s").Ends(t, 4, "not done within 10s\n"+hint)
	})
	for name, signals := range map[string][]syscall.Signal{
		"SIGINT": {syscall.SIGINT}, "SIGTERM": {syscall.SIGTERM}, "SIGHUP": {syscall.SIGHUP}, "SIGTERM twice": {syscall.SIGTERM, syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := block(t)
			for _, signal := range signals {
				if err := client.Process.Signal(signal); err != nil {
					t.Error(err)
				}
			}
			client.Ends(t, 130, "interrupted\n"+hint)
		})
	}
}

// converse says a line to a command and reads the first byte of what it writes, so that it waits
// for the next line.
func converse(t *testing.T, client *processtest.Client) *processtest.Client {
	t.Helper()
	// What a program has said that ended too soon is shown by Ends.
	if _, err := io.WriteString(client.In, "hello\n"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(client.Out, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	return client
}
