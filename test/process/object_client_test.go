package process_test

import (
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/quartet/test/process/processtest"
)

func TestObjectsThatCannotBeWrittenAreAFailure(t *testing.T) {
	server := processtest.Start(t)
	processtest.Shell(t, 0, server.Address, "echo content | client upload - x")
	wantLost(
		t,
		server.Address,
		"list",
		"list --json",
		"get x",
		"get x --json",
		"download x -",
		"download x /dev/stdout",
		"upload - y <<<line",
	)
	wantClosed(t, server.Address, "list", "get x", "download x -")
	processtest.Shell(
		t,
		0,
		server.Address,
		"client list >/dev/null; client check </dev/null >/dev/null 2>&-",
	)
	for _, line := range []string{"client download x - | cat", "client download x /dev/stdout | cat", "client download x >(cat); wait $!"} {
		if output := processtest.Shell(t, 0, server.Address, line); !strings.Contains(output,
			"content\n") {
			t.Errorf("%s: %s", line, output)
		}
	}
}

func TestAStandardInputThatIsClosedIsNotTakenForAnEmptyOne(t *testing.T) {
	server := processtest.Start(t)
	if output := processtest.Shell(t, 1, server.Address,
		"client upload - x <&-"); !strings.Contains(output, "standard input is closed") {
		t.Error(output)
	}
	processtest.Shell(t, 3, server.Address, "client get x")
	processtest.Shell(t, 0, server.Address, "client upload - x </dev/null")
}

// big starts a server that has an object which is larger than a pipe.
func big(t *testing.T) *processtest.Server {
	t.Helper()
	server := processtest.Start(t)
	processtest.Shell(t, 0, server.Address, "head -c 8M /dev/zero | client upload - big")
	return server
}

func TestAnUploadObeysWhileItsInputIsBlocked(t *testing.T) {
	t.Parallel()
	server := processtest.Start(t)
	wantObedient(
		t,
		"to continue, add: --upload-id ",
		func(t *testing.T, more ...string) *processtest.Client {
			client := processtest.StartClient(
				t,
				server.Address,
				append([]string{"upload", "-", "x"}, more...)...)
			if _, err := client.In.Write(make([]byte, 1<<20)); err != nil { // More than a pipe holds.
				t.Error(err)
			}
			return client
		},
	)
}

func TestADownloadObeysWhileItsOutputIsBlocked(t *testing.T) {
	t.Parallel()
	server := big(t)
	wantObedient(t, "", func(t *testing.T, more ...string) *processtest.Client {
		client := processtest.StartClient(
			t,
			server.Address,
			append([]string{"download", "big", "-"}, more...)...)
		if _, err := io.ReadFull(client.Out, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		return client
	})
}

func TestAFIFOThatNoProcessOpensIsWaitedForNoLongerThanAllowed(t *testing.T) {
	server := big(t)
	for _, arguments := range [][]string{{"upload", "FIFO", "x"}, {"download", "big", "FIFO"}} {
		t.Run(arguments[0], func(t *testing.T) {
			t.Parallel()
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range arguments {
				arguments[i] = strings.Replace(arguments[i], "FIFO", fifo, 1)
			}
			processtest.StartClient(
				t,
				server.Address,
				append(arguments, "--timeout", "2s")...).Ends(
				t,
				4,
				"not done within 2s",
			)
		})
	}
}

func TestSIGHUPIsIgnoredUnderNohup(t *testing.T) {
	server := processtest.Start(t)
	output := processtest.Shell(t, 0, server.Address, `mkfifo in
nohup "$CLIENT" upload - x <in >out 2>err & exec 3>in
head -c 1M /dev/zero >&3; kill -HUP $!; exec 3>&-; wait $!; cat err`)
	if !strings.Contains(output, `uploaded "x"`) {
		t.Error(output)
	}
}
