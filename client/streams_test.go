package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// shell runs a line of a shell, in which "client" is the program, wants an exit code, and returns what was written.
func shell(t *testing.T, code int, address, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-c", `client() { "$CLIENT" "$@"; }; `+line)
	c.Env = process.Environ(process.Setting("SERVER", address), "CLIENT="+processtest.Binary(t, "client"))
	c.Dir = t.TempDir()
	output, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != code {
		t.Errorf("%s: exit code %d, expected %d: %v\n%s", line, got, code, err, output)
	}
	return string(output)
}

// TestAResultThatCannotBeWrittenIsAFailure has all that is written to standard output meet a device that is full.
func TestAResultThatCannotBeWrittenIsAFailure(t *testing.T) {
	server := processtest.Start(t)
	shell(t, 0, server.Address, "echo content | client upload - x")
	for _, line := range []string{
		"check", "demo", "--help", "upload --help", "help", "help list", "--version", "completion bash", "list", "list --json", "get x", "get x --json",
		"download x -", "echo hello", "expand 'one two'", "collect one", "converse <<<line", "upload - y <<<line",
		"chat room --after 0 <<<line",
	} {
		if output := shell(t, 1, server.Address, "client "+line+" >/dev/full"); !strings.Contains(output, "no space left on device") {
			t.Errorf("%s: %s", line, output)
		}
	}
}

// TestStreamsThatAreClosedAreNotTakenForEmptyOnes closes standard input and output as a shell does.
func TestStreamsThatAreClosedAreNotTakenForEmptyOnes(t *testing.T) {
	server := processtest.Start(t)
	if output := shell(t, 1, server.Address, "client upload - x <&-"); !strings.Contains(output, "standard input is closed") {
		t.Error(output)
	}
	shell(t, 3, server.Address, "client get x")
	shell(t, 0, server.Address, "client upload - x </dev/null")
	for _, line := range []string{"download x -", "list", "get x", "echo hello", "expand hello", "collect hello", "converse", "chat room"} {
		if output := shell(t, 1, server.Address, "client "+line+" >&-"); !strings.Contains(output, "standard output is closed") {
			t.Errorf("%s: %s", line, output)
		}
	}
	shell(t, 0, server.Address, "client list >/dev/null; client check </dev/null >/dev/null 2>&-")
}
