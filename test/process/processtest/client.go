package processtest

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/quartet/test/process"
)

// Command is the client's program, told where the server is, and ended with the test or after two
// minutes.
func Command(tb testing.TB, address string, arguments ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	tb.Cleanup(cancel)
	c := exec.CommandContext(ctx, Binary(tb, "client"), arguments...)
	c.Env = process.Environ(process.Setting("SERVER", address))
	return c
}

// Shell runs a line of a shell, in which "client" is the client's program, wants an exit code, and
// returns what was written.
func Shell(tb testing.TB, code int, address, line string) string {
	tb.Helper()
	c := Command(tb, address)
	c.Env = append(c.Env, "CLIENT="+c.Path)
	shell, err := exec.LookPath("bash")
	if err != nil {
		tb.Fatal(err)
	}
	c.Path, c.Args = shell, []string{"bash", "-c", `client() { "$CLIENT" "$@"; }; ` + line}
	c.Dir = tb.TempDir()
	output, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != code {
		tb.Errorf("%s: exit code %d, expected %d: %v\n%s", line, got, code, err, output)
	}
	return string(output)
}

// Client is the client's program with pipes at its standard streams that stay open, so that it can
// be blocked on any of them. When it has ended, so have its pipes.
type Client struct {
	*exec.Cmd
	In  io.Writer
	Out io.Reader
	err bytes.Buffer
}

// StartClient starts the client's program.
func StartClient(tb testing.TB, address string, arguments ...string) *Client {
	tb.Helper()
	c := &Client{Cmd: Command(tb, address, arguments...)}
	c.Stderr = &c.err
	var its []*os.File
	for _, open := range []func(r, w *os.File){
		func(r, w *os.File) { c.Stdin, c.In, its = r, w, append(its, r) },
		func(r, w *os.File) { c.Stdout, c.Out, its = w, r, append(its, w) },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			tb.Fatal(err)
		}
		open(r, w)
		tb.Cleanup(func() { _, _ = r.Close(), w.Close() })
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	// With these open here too, a test would wait for ever for a program that has ended.
	for _, end := range its {
		if err := end.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// Ends wants the program to end soon, with an exit code, and to have said something. It returns all
// that was said.
func (c *Client) Ends(tb testing.TB, code int, part string) string {
	tb.Helper()
	began := time.Now()
	_ = c.Wait() // The exit code says how it ended.
	if took := time.Since(began); c.ProcessState.ExitCode() != code ||
		!strings.Contains(c.err.String(), part) || took > 30*time.Second {
		tb.Errorf(
			"%v: %v after %v, expected %d and %q:\n%s",
			c.Args[1:],
			c.ProcessState,
			took,
			code,
			part,
			&c.err,
		)
	}
	return c.err.String()
}
