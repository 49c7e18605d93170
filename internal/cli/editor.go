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
	// out is standard output, which Terminal draws on and reads the size of.
	out  *os.File
	keys *keyboard
	// closed is set when the terminal is back to normal: writers may come later than that.
	closed atomic.Bool
	// restore brings the terminal back. It runs once, called by Close or at the end of the command.
	restore func()
}

// Write writes whole lines above the one that is typed.
func (e *Editor) Write(p []byte) (int, error) {
	if e.closed.Load() {
		return e.out.Write(p)
	}
	// term.Terminal counts every character as one column, and so does not find the beginning of a
	// typed line with wider ones, such as Chinese. Erasing first leaves no rest of it.
	if _, err := e.Terminal.Write(append([]byte(clearBelow), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Edit makes the terminal an editor, with a prompt before the line that is typed, until the command
// ends. It returns nil where standard input and output are no terminal. What is written to standard
// error comes in above the line too.
func (c *Terminal) Edit(prompt string) (*Editor, error) {
	// A test, or a pipe, has something else there than a file: no terminal.
	in, _ := c.command.stdin.(*os.File)
	out, _ := c.command.stdout.to.(*os.File)
	if !IsTerminal(in) || !IsTerminal(out) || config.Lookup(c.command.environ, "TERM") == "dumb" {
		return nil, nil
	}
	// In raw mode the program gets each key and draws what is typed; before is the mode to go back to.
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	keys := &keyboard{File: in}
	// Terminal reads keys from standard input and draws on standard output.
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
	// Notes and logs go through the editor from now on, or they would tear the typed line.
	normal := screen.redirect(e)
	e.restore = sync.OnceFunc(func() {
		// Write goes straight to the file from here on, also for a log line that comes at this moment.
		e.closed.Store(true)
		screen.redirect(normal)
		// A line that was begun is not left in front of the shell's prompt.
		_, _ = io.WriteString(out, clearLine)
		_ = term.Restore(int(in.Fd()), before) // A terminal that is gone needs none.
	})
	// run calls it if the command ends without Close, as it does when it is interrupted.
	c.command.restore.Store(&e.restore)
	return e, nil
}

// ReadLine returns the next line, and io.EOF after Ctrl-D.
func (e *Editor) ReadLine() (string, error) {
	line, err := e.Terminal.ReadLine()
	// term.Terminal returns io.EOF for Ctrl-C, too; it is no end of the input.
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
	// resize tells the editor the size of the terminal; it is called with each key.
	resize      func()
	interrupted atomic.Bool
}

// Read implements io.Reader. It looks for Ctrl-C in what was typed before the editor gets it.
func (k *keyboard) Read(p []byte) (int, error) {
	n, err := k.File.Read(p)
	// No signal for a changed size is needed: the line is drawn again with each key anyway.
	k.resize()
	if bytes.IndexByte(p[:n], ctrlC) >= 0 {
		// ReadLine looks at it to tell the two ends apart.
		k.interrupted.Store(true)
		// The signal takes the usual way, so that a second Ctrl-C ends the program at once.
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Signal(os.Interrupt) // It is ourselves.
		}
	}
	return n, err
}

// ctrlC is the byte that a terminal sends for Ctrl-C, ETX in ASCII.
const ctrlC = 3

// clearBelow goes to the beginning of the line and erases it and those below.
const clearBelow = "\r\x1b[J"
