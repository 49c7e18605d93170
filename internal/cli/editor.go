package cli

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"example.com/quartet/internal/config"
)

// Editor is a terminal on which a person types a line while other lines come in above it.
type Editor struct {
	*term.Terminal
	out     *os.File
	keys    *keyboard
	closed  atomic.Bool
	restore func()
}

// Write writes whole lines above the one that is typed.
func (e *Editor) Write(p []byte) (int, error) {
	if e.closed.Load() {
		return e.out.Write(p)
	}
	// The terminal counts every character as one column, and so does not find the beginning of a
	// line with wider ones.
	if _, err := e.Terminal.Write(append([]byte(clearBelow), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Edit makes the terminal an editor, with a prompt before the line that is typed, until the command
// ends. It returns nil where standard input and output are no terminal. What is written to standard
// error comes in above the line too.
func (c *Console) Edit(prompt string) (*Editor, error) {
	in, _ := c.command.stdin.(*os.File)
	out, _ := c.command.stdout.to.(*os.File)
	if !IsTerminal(in) || !IsTerminal(out) || config.Lookup(c.command.environ, "TERM") == "dumb" {
		return nil, nil
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	keys := &keyboard{File: in}
	e := &Editor{out: out, keys: keys, Terminal: term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, out}, prompt)}
	keys.resize = func() {
		if width, height, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
			_ = e.SetSize(width, height) // What cannot be drawn now is drawn with the next key.
		}
	}
	keys.resize()
	screen := c.command.stderr
	normal := screen.redirect(e)
	e.restore = sync.OnceFunc(func() {
		e.closed.Store(true)
		screen.redirect(normal)
		_, _ = io.WriteString(out, clearLine)
		_ = term.Restore(int(in.Fd()), before) // A terminal that is gone needs none.
	})
	c.command.restore.Store(&e.restore)
	return e, nil
}

// ReadLine returns the next line, and io.EOF after Ctrl-D.
func (e *Editor) ReadLine() (string, error) {
	line, err := e.Terminal.ReadLine()
	if err != nil && e.keys.interrupted.Load() {
		return "", errInterrupted
	}
	return line, err
}

// Close makes the terminal what it was.
func (e *Editor) Close() { e.restore() }

// keyboard is the terminal's input. In raw mode Ctrl-C is a key like any other; it interrupts all
// the same.
type keyboard struct {
	*os.File
	resize      func()
	interrupted atomic.Bool
}

func (k *keyboard) Read(p []byte) (int, error) {
	n, err := k.File.Read(p)
	k.resize()
	if bytes.IndexByte(p[:n], ctrlC) >= 0 {
		k.interrupted.Store(true)
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Signal(os.Interrupt) // It is ourselves.
		}
	}
	return n, err
}

const ctrlC = 3

// clearBelow goes to the beginning of the line and erases it and those below.
const clearBelow = "\r\x1b[J"
