package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// blocked is the program with pipes at its standard streams that stay open, so that it can be blocked on any of them.
type blocked struct {
	*exec.Cmd
	in     io.Writer
	out    io.Reader
	stderr bytes.Buffer
}

func start(t *testing.T, address string, arguments ...string) *blocked {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	b := &blocked{Cmd: exec.CommandContext(ctx, processtest.Binary(t, "client"), arguments...)}
	b.Env = process.Environ(process.Setting("SERVER", address))
	b.Cmd.Stderr = &b.stderr
	for _, open := range []func(r, w *os.File){
		func(r, w *os.File) { b.Cmd.Stdin, b.in = r, w },
		func(r, w *os.File) { b.Cmd.Stdout, b.out = w, r },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		open(r, w)
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// ends wants the program to end soon, with an exit code, and to have said something.
func (b *blocked) ends(t *testing.T, code int, part string) {
	t.Helper()
	began := time.Now()
	_ = b.Wait() // The exit code says how it ended.
	if took := time.Since(began); b.ProcessState.ExitCode() != code || !strings.Contains(b.stderr.String(), part) || took > 10*time.Second {
		t.Errorf("%v: %v after %v, expected %d and %q:\n%s", b.Args[1:], b.ProcessState, took, code, part, &b.stderr)
	}
}

// blockades are commands that are blocked on one of their streams, each once its function has returned.
func blockades(t *testing.T, address string) map[string]func(...string) *blocked {
	t.Helper()
	fifo := func() string {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Error(err)
		}
		return path
	}
	return map[string]func(...string) *blocked{
		"stdin of an upload": func(more ...string) *blocked {
			b := start(t, address, append([]string{"upload", "-", "x"}, more...)...)
			if _, err := b.in.Write(make([]byte, 1<<20)); err != nil { // More than a pipe holds.
				t.Error(err)
			}
			return b
		},
		"stdout of a download": func(more ...string) *blocked {
			b := start(t, address, append([]string{"download", "big", "-"}, more...)...)
			if _, err := io.ReadFull(b.out, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			return b
		},
		"stdin of a chat": func(more ...string) *blocked {
			b := start(t, address, append([]string{"chat", "room"}, more...)...)
			_, _ = io.WriteString(b.in, "hello\n")
			if _, err := io.ReadFull(b.out, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			return b
		},
		"stdin of converse": func(more ...string) *blocked {
			b := start(t, address, append([]string{"converse"}, more...)...)
			_, _ = io.WriteString(b.in, "hello\n")
			if _, err := io.ReadFull(b.out, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			return b
		},
		"a FIFO to upload": func(more ...string) *blocked {
			return start(t, address, append([]string{"upload", fifo(), "x"}, more...)...)
		},
		"a FIFO to download to": func(more ...string) *blocked {
			return start(t, address, append([]string{"download", "big", fifo()}, more...)...)
		},
	}
}

func TestABlockedCommandObeysItsTimeout(t *testing.T) {
	server := processtest.Start(t)
	shell(t, 0, server.Address, "head -c 8M /dev/zero | client upload - big")
	for name, block := range blockades(t, server.Address) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			block("--timeout", "2s").ends(t, 4, "not done within 2s")
		})
	}
}

func TestABlockedCommandObeysSignals(t *testing.T) {
	server := processtest.Start(t)
	shell(t, 0, server.Address, "head -c 8M /dev/zero | client upload - big")
	for name, block := range blockades(t, server.Address) {
		if strings.Contains(name, "FIFO") {
			continue // Nothing tells when it is waited for.
		}
		for signal, signals := range map[string][]syscall.Signal{
			"SIGINT": {syscall.SIGINT}, "SIGTERM": {syscall.SIGTERM}, "SIGHUP": {syscall.SIGHUP}, "twice": {syscall.SIGTERM, syscall.SIGTERM},
		} {
			t.Run(name+"/"+signal, func(t *testing.T) {
				t.Parallel()
				b := block()
				for _, s := range signals {
					if err := b.Process.Signal(s); err != nil {
						t.Error(err)
					}
				}
				hint := "interrupted\n"
				if strings.Contains(name, "upload") {
					hint += "to continue, add: --upload-id "
				}
				b.ends(t, 130, hint)
			})
		}
	}
}

func TestSIGHUPIsIgnoredUnderNohup(t *testing.T) {
	server := processtest.Start(t)
	output := shell(t, 0, server.Address, `mkfifo in
nohup "$CLIENT" upload - x <in >out 2>err & exec 3>in
head -c 1M /dev/zero >&3; kill -HUP $!; exec 3>&-; wait $!; cat err`)
	if !strings.Contains(output, `uploaded "x"`) {
		t.Error(output)
	}
}
