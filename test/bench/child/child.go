// Package child runs other copies of this program, and asks them questions through their standard
// input and output. The ends of a connection that is measured are processes of their own, so that
// what each uses can be told apart.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"time"
)

// name is what the one object of a child answers to.
const name = "Child"

// Process is a child that runs.
type Process struct {
	command *exec.Cmd
	client  *rpc.Client
}

// Start starts this program again with other arguments. The child is killed when ctx is done.
func Start(ctx context.Context, arguments ...string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, program, arguments...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &Process{command, rpc.NewClient(pipes{out, in})}, nil
}

// grace is how much longer than it has to an answer may take.
const grace = 30 * time.Second

// Ask calls a method of the child's object, which may work for as long as it was told to, and
// writes what it returns to answer. A child that is stuck is an error.
func (p *Process) Ask(method string, work time.Duration, argument, answer any) error {
	call := p.client.Go(name+"."+method, argument, answer, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("child %d: %s: %w", p.command.Process.Pid, method, call.Error)
		}
		return nil
	case <-time.After(work + grace):
		return fmt.Errorf("child %d: %s: no answer", p.command.Process.Pid, method)
	}
}

// PID is the child's process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Stop closes the child's input, at which it ends, and waits for it. One that does not end is
// killed.
func (p *Process) Stop() error {
	_ = p.client.Close() // A child that is gone has closed it already; Wait tells.
	late := time.AfterFunc(grace, func() { _ = p.command.Process.Kill() })
	defer late.Stop()
	return p.command.Wait()
}

// Serve is the child's side: it answers with the exported methods of object, as net/rpc finds them,
// until there is no parent to ask any more. Nothing else may write to standard output.
func Serve(object any) error {
	server := rpc.NewServer()
	if err := server.RegisterName(name, object); err != nil {
		return err
	}
	server.ServeConn(pipes{os.Stdin, os.Stdout})
	return nil
}

// pipes is two files that look like one connection.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.ReadCloser.Close()) }
