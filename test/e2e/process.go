package e2e

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// process is a command in the background. It ends with its test at the latest.
type process struct {
	*exec.Cmd
	stdout, stderr lockedBuffer
	done           chan struct{}
	err            error // once done is closed
}

// start starts a command whose pipes or folder prepare may set.
func start(t *testing.T, prepare func(*exec.Cmd), name string, args ...string) *process {
	t.Helper()
	// Not the test's context, which is over before the cleanup that ends the process in order.
	p := &process{Cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.Stdout, p.Stderr, p.WaitDelay = &p.stdout, &p.stderr, killAfter
	// In a group of its own, so that what it starts ends with it.
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if prepare != nil {
		prepare(p.Cmd)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) interrupt() { _ = p.Process.Signal(syscall.SIGINT) } // It may have ended already.

func (p *process) kill() {
	_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// lockedBuffer is what a process has written so far.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
