// Package process runs the programs of this repository as children: for the demo, and for tests
// that have to kill one.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/quartet"
)

// Setting is one of the variables of the programs, named without the prefix that they all have.
func Setting(name, value string) string {
	return quartet.Identity.EnvironmentPrefix() + name + "=" + value
}

// Environ is our environment, with more added. It lacks what a developer has set for the programs
// in a shell: that is meant for one of them, and another may refuse it.
func Environ(more ...string) []string {
	inherited := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, quartet.Identity.EnvironmentPrefix())
	})
	return append(inherited, more...)
}

// Build compiles packages of this module, named as for go build, into dir. arguments come first,
// -race for example.
func Build(ctx context.Context, dir string, packages []string, arguments ...string) error {
	args := append(
		[]string{"build", "-o", dir + string(filepath.Separator)},
		append(arguments, packages...)...)
	output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return nil
}

// Process is a program that was started. It logs JSON lines, and says with one of them where it
// listens.
type Process struct {
	command *exec.Cmd
	// listening is closed when the program has said where it listens; addresses then has them by name.
	listening chan struct{}
	addresses map[string]string
	// exited is closed when the program has ended; err then says how.
	exited chan struct{}
	err    error
}

// Start starts a program that serves, with env added to Environ. Everything it logs is copied to
// logs.
func Start(path string, env []string, logs io.Writer, arguments ...string) (*Process, error) {
	return StartIn("", path, env, logs, arguments...)
}

// StartIn is Start in a folder, below which a program keeps its data unless it is told otherwise.
func StartIn(
	folder, path string,
	env []string,
	logs io.Writer,
	arguments ...string,
) (*Process, error) {
	p := &Process{
		command:   exec.Command(path, arguments...),
		listening: make(chan struct{}),
		exited:    make(chan struct{}),
	}
	// Ctrl-C at a terminal goes to the whole group. The child has its own, so that its parent decides
	// which program stops first.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.command.Dir = folder
	p.command.Env = append(Environ(Setting("LOG_FORMAT", "json")), env...)
	output, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go p.watch(output, logs)
	return p, nil
}

// watch copies the log, looks in it for the addresses, and waits for the end.
func (p *Process) watch(output io.Reader, logs io.Writer) {
	var once sync.Once
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadBytes('\n')
		_, _ = logs.Write(line) // A log that cannot be kept is no reason to stop.
		if addresses := addressesIn(line); addresses != nil {
			once.Do(func() {
				p.addresses = addresses
				close(p.listening)
			})
		}
		if err != nil {
			break
		}
	}
	p.err = p.command.Wait()
	close(p.exited)
}

// addressesIn returns the attributes of a "listening" line, and nil for any other.
func addressesIn(line []byte) map[string]string {
	var record map[string]any
	if json.Unmarshal(line, &record) != nil || record["msg"] != "listening" {
		return nil
	}
	addresses := map[string]string{}
	for key, value := range record {
		if text, ok := value.(string); ok {
			addresses[key] = text
		}
	}
	return addresses
}

// Addresses waits until the program listens, and says where: by the names in its log, "grpc" or
// "http" for example.
func (p *Process) Addresses(ctx context.Context) (map[string]string, error) {
	select {
	case <-p.listening:
		return p.addresses, nil
	case <-p.exited:
		return nil, fmt.Errorf(
			"%s ended before it listened (%v); its log says why",
			p.command.Path,
			p.command.ProcessState,
		)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s to listen: %w", p.command.Path, ctx.Err())
	}
}

// PID is the program's process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Kill ends the program as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.command.Process.Kill() // It may be gone already.
	<-p.exited
}

// Stop asks the program to end as Kubernetes does, waits for it, and kills it after the given time.
// The error says that it had to, or that it did not end with status 0.
func (p *Process) Stop(after time.Duration) error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.err
	case <-time.After(after):
		p.Kill()
		return fmt.Errorf("%s did not stop within %v", p.command.Path, after)
	}
}

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }
