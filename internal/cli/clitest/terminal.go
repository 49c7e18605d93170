// Package clitest runs command lines within tests.
package clitest

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/cli"
)

// Terminal is a command line that runs in a test, with what it wrote. The program is called "test",
// and its variables begin with TEST_.
type Terminal struct {
	// Services are what the program calls.
	Services []cli.Service
	// Stdin is what the program reads, and Environ is added to its environment.
	Stdin   string
	Environ []string
	// Out and Err are standard output and standard error.
	Out, Err Output
}

// Output is a writer that can be read, and waited on, while it is written.
type Output struct {
	// mu guards the rest, which the program and the test share.
	mu   sync.Mutex
	text bytes.Buffer
	// want is what is waited for, and found is closed when it is there.
	want  string
	found chan struct{}
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	o.look()
	return len(p), nil
}

// look closes found if want has been written. The caller has locked mu.
func (o *Output) look() {
	if o.found != nil && strings.Contains(o.text.String(), o.want) {
		close(o.found)
		o.found = nil
	}
}

// Await returns a channel that is closed once text has been written, also if that was before. Only
// the last Await of an Output is looked for.
func (o *Output) Await(text string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := make(chan struct{})
	o.want, o.found = text, found
	o.look()
	return found
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Run runs a command line against a server and returns the exit code.
func (c *Terminal) Run(ctx context.Context, server string, args ...string) int {
	program := cli.Program{
		Identity: app.Identity{Name: "test"},
		Version:  "v1.2.3",
		About:    "Calls services.",
		Services: c.Services,
	}
	// c.Environ comes last, and so wins.
	environ := append([]string{"TEST_SERVER=" + server}, c.Environ...)
	return program.Run(
		ctx,
		append([]string{"/usr/bin/test"}, args...),
		environ,
		strings.NewReader(c.Stdin),
		&c.Out,
		&c.Err,
	)
}

// Expect runs a command line against a server, fails the test unless it ends with an exit code, and
// returns what was written.
func Expect(
	t *testing.T,
	code int,
	services []cli.Service,
	server string,
	args ...string,
) (out, err string) {
	t.Helper()
	c := Terminal{Services: services}
	if got := c.Run(t.Context(), server, args...); got != code {
		t.Errorf(
			"%s: exit code %d, expected %d\n%s%s",
			strings.Join(args, " "),
			got,
			code,
			&c.Out,
			&c.Err,
		)
	}
	return c.Out.String(), c.Err.String()
}

// Want fails the test unless part is in text.
func Want(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in:\n%s", part, text)
	}
}
