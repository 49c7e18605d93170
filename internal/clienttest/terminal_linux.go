package clienttest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a program at a pseudoterminal of its own. The test reads and types as a person would.
type Terminal struct {
	*exec.Cmd
	tb testing.TB
	// master is the test's end of the pseudoterminal: what is written to it are keys for the program.
	master *os.File
	// changed has a value when output has come since Await last looked.
	changed chan struct{}

	// mu guards the rest, which the reading goroutine and the test share.
	mu     sync.Mutex
	output string
	read   int // how much of the output was waited for
}

// StartTerminal starts a program at a terminal of 80 columns.
func StartTerminal(tb testing.TB, program *exec.Cmd) *Terminal {
	tb.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	// /dev/ptmx gives a new pseudoterminal on each open. The program's end is /dev/pts/number, and is
	// locked at first (see pts(4)).
	number, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		// The width matters: progress and the editor draw for it.
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err != nil {
		tb.Fatal(err)
	}
	// With O_NOCTTY the terminal does not become the one of the test itself. The test keeps this end
	// open, since reading the master fails (EIO) as soon as no process has it open.
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	program.Stdin, program.Stdout, program.Stderr = slave, slave, slave
	// In a session of its own the program gets the terminal as its controlling one, so that Ctrl-C
	// typed here becomes SIGINT for it.
	program.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	// Without TERM, as in CI, the program would take the terminal for a dumb one.
	program.Env = append(program.Environ(), "TERM=xterm")
	if err := program.Start(); err != nil {
		tb.Fatal(err)
	}
	t := &Terminal{Cmd: program, tb: tb, master: master, changed: make(chan struct{}, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			t.mu.Lock()
			t.output += string(buffer[:n])
			t.mu.Unlock()
			// Await needs to know only that there is more, so that one value waiting is enough.
			select {
			case t.changed <- struct{}{}:
			default:
			}
			// Closing the master in the cleanup ends the loop.
			if err != nil {
				return
			}
		}
	}()
	tb.Cleanup(func() {
		_ = program.Process.Kill() // It may have ended.
		_ = slave.Close()
		_ = program.Wait()
		_ = master.Close()
		<-read
	})
	return t
}

// Type types keys.
func (t *Terminal) Type(keys string) {
	t.tb.Helper()
	if _, err := t.master.WriteString(keys); err != nil {
		t.tb.Fatal(err)
	}
}

// Await waits until part is shown, after the part of the Await before, and returns what was shown
// up to its end.
func (t *Terminal) Await(part string) string {
	t.tb.Helper()
	// Half a minute is far more than a program needs, also on a machine under load.
	timeout := time.After(30 * time.Second)
	for {
		t.mu.Lock()
		rest := t.output[t.read:]
		if i := strings.Index(rest, part); i >= 0 {
			// The next Await begins behind this part.
			t.read += i + len(part)
			t.mu.Unlock()
			return rest[:i+len(part)]
		}
		t.mu.Unlock()
		// The lock is not held here, or no output could come.
		select {
		case <-t.changed:
		case <-timeout:
			t.tb.Fatalf("%q is not shown: %q", part, rest)
		}
	}
}

// Raw reports whether the program takes every key as it is typed, and not line by line (ICANON
// off).
func (t *Terminal) Raw() bool {
	t.tb.Helper()
	// The mode belongs to the terminal, so that the master's end shows it.
	state, err := unix.IoctlGetTermios(int(t.master.Fd()), unix.TCGETS)
	if err != nil {
		t.tb.Fatal(err)
	}
	return state.Lflag&unix.ICANON == 0
}
