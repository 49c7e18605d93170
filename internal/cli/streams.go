package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// result is standard output. What cannot be written there fails the command, also where a library
// does not look at the error: a result that is lost must not look like one that was empty.
type result struct {
	to     io.Writer
	outage *outage

	// mu guards err: results may be written by several goroutines.
	mu sync.Mutex
	// err is the first that a write has returned.
	err error
}

// Write implements io.Writer.
func (r *result) Write(p []byte) (int, error) {
	r.outage.back() // What is written has come.
	n, err := r.to.Write(p)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err == nil {
			r.err = err
		}
	}
	return n, err
}

// failure is the first error of all writes.
func (r *result) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("write the result: %w", r.err)
}

// Fd is that of the file, or none, so that IsTerminal can be asked about it.
func (r *result) Fd() uintptr {
	if f, ok := r.to.(*os.File); ok {
		return f.Fd()
	}
	// No file has this number: term.IsTerminal says no.
	return ^uintptr(0)
}

// IsTerminal reports whether a stream is a terminal. What has no file descriptor is none.
func IsTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// A shell closes them with <&- and >&-.
var (
	errNoStdin  = errors.New("standard input is closed")
	errNoStdout = errors.New("standard output is closed")
)

// NeedStdin returns an error if the program was started without a standard input, so that nothing
// is taken for an input that is empty.
func (c *Terminal) NeedStdin() error {
	if wasClosed(c.command.stdin) {
		return errNoStdin
	}
	return nil
}

// NeedStdout returns an error if the program was started without a standard output.
func (c *Terminal) NeedStdout() error {
	if wasClosed(c.command.stdout.to) {
		return errNoStdout
	}
	return nil
}
