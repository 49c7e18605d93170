package e2e

import (
	"path/filepath"
	"testing"
)

// cli is the command line client, talking to the servers at an address.
type cli struct{ program, server string }

// buildCLI compiles the client, as an operator that calls the server does.
func buildCLI(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(t.TempDir(), "client"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, "go", "-C", repository, "build", "-o", program, "./client")
	return program
}

// args is a command line. No command may outlast a minute.
func (c cli) args(args ...string) []string {
	return append([]string{"--server", c.server, "--timeout", "60s"}, args...)
}

// run runs a command of the client with what is on its standard input, and returns its standard
// output.
func (c cli) run(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), stdin, c.program, c.args(args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out.stdout
}

// inClient is the command line of kubectl that runs the client in one of its pods.
func (n *namespace) inClient(pod string, args ...string) []string {
	return n.kubectl(append([]string{"exec", "--stdin", pod, "--", "/client", "--timeout", "2m"}, args...)...)
}
