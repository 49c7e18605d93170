// Package pair builds server and client and runs them as processes on the loopback interface, for
// checks that compare files of this repository with what the programs do.
package pair

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Both are long, since a machine that runs tests may be slow.
const (
	// startTime is how long a program may take to say that it listens.
	startTime = time.Minute
	// stopTime is how long it may take from SIGTERM to its exit.
	stopTime = time.Minute
)

// Pair is a server and a client that calls it.
type Pair struct{ Server, Client *Process }

// Process is one of them, after it has said that it listens.
type Process struct {
	Addresses map[string]string // by purpose: http, probe, and of the server grpc

	command *exec.Cmd
	output  bytes.Buffer // not to be read before ended is closed
	// ended is closed when the process has ended and all of its output was read.
	ended chan struct{}
	err   error // how it ended
}

// Start takes the folder of the repository, an empty folder for programs and data, and the
// environment of each program, in which addresses are replaced; they do not wait before they drain,
// unless it says so. Both run until Stop, or are killed when the context ends.
func Start(
	ctx context.Context,
	repository, scratch string,
	server, client map[string]string,
) (*Pair, error) {
	// A folder as the output takes both programs, named after their folders.
	build := exec.CommandContext(
		ctx,
		"go",
		"build",
		"-o",
		scratch+string(filepath.Separator),
		"./server",
		"./client",
	)
	build.Dir = repository
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, output)
	}
	p := &Pair{}
	help, err := exec.CommandContext(ctx, filepath.Join(scratch, "server"), "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("server --help: %w", err)
	}
	prefix, err := PrefixIn(string(help))
	if err != nil {
		return nil, err
	}
	// Settings under another prefix would be ignored, and everything would pass with defaults.
	for _, given := range []map[string]string{server, client} {
		names := slices.Sorted(maps.Keys(given))
		begins := func(name string) bool { return strings.HasPrefix(name, prefix) }
		if len(names) > 0 && !slices.ContainsFunc(names, begins) {
			return nil, fmt.Errorf(
				"the programs have variables that begin with %s, none of which is among %q", prefix, names)
		}
	}
	// Port 0 is a free one; the log says which. A client is told that of the server.
	here := map[string]string{prefix + "GRPC_ADDRESS": "127.0.0.1:0"}
	// The server is first, as the client is told where it listens.
	if p.Server, err = start(ctx, scratch, prefix, server, here, "server"); err != nil {
		return nil, err
	}
	// The client calls the server, whatever address it was given for it.
	there := map[string]string{prefix + "SERVER": p.Server.Addresses["grpc"]}
	if p.Client, err = start(ctx, scratch, prefix, client, there, "client", "serve"); err != nil {
		return nil, errors.Join(err, p.Server.stop())
	}
	return p, nil
}

// Stop ends both, the client first, and says if one of them did not end well.
func (p *Pair) Stop() error {
	return errors.Join(p.Client.stop(), p.Server.stop())
}

// start runs a program of the folder in it, with the given environment and what has to be so here.
func start(
	ctx context.Context,
	folder, prefix string,
	given, here map[string]string,
	program string,
	args ...string,
) (*Process, error) {
	// An empty address here becomes one of the loopback interface below, as all that were given.
	environment := map[string]string{
		prefix + "DRAIN_DELAY":   "0s",
		prefix + "PROBE_ADDRESS": "",
		prefix + "HTTP_ADDRESS":  "",
	}
	// What is given wins over these, and what has to be so here over both.
	maps.Copy(environment, given)
	for name := range environment {
		if strings.HasSuffix(name, "_ADDRESS") {
			environment[name] = "127.0.0.1:0"
		}
	}
	maps.Copy(environment, here)
	// read understands lines of JSON, and the one that it needs is of the level info.
	environment[prefix+"LOG_FORMAT"], environment[prefix+"LOG_LEVEL"] = "json", "info"

	p := &Process{
		command: exec.CommandContext(ctx, filepath.Join(folder, program), args...),
		ended:   make(chan struct{}),
	}
	p.command.Dir = folder
	for name, value := range environment {
		p.command.Env = append(p.command.Env, name+"="+value)
	}
	// Both outputs go through one pipe, so that the lines stay in their order.
	reader, writer := io.Pipe()
	p.command.Stdout, p.command.Stderr = writer, writer
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	listening := make(chan map[string]string, 1)
	go p.read(reader, listening)
	go func() {
		// Wait returns when the process has ended and all of its output was copied.
		p.err = p.command.Wait()
		_ = writer.Close() // The reader sees the end, and closes ended.
	}()

	inTime, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	// The process may fail to start, or hang.
	select {
	case p.Addresses = <-listening:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("%s does not start: %w\n%s", program, p.err, p.output.Bytes())
	case <-inTime.Done():
		_ = p.command.Process.Kill()
		<-p.ended
		return nil, fmt.Errorf("%s does not listen: %w\n%s", program, inTime.Err(), p.output.Bytes())
	}
}

// read keeps what the process prints, and takes its addresses from the line that says where it
// listens.
func (p *Process) read(output io.Reader, listening chan<- map[string]string) {
	defer close(p.ended)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		// All output is kept, for the error of a process that fails.
		p.output.Write(lines.Bytes())
		p.output.WriteByte('\n')
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil || line["msg"] != "listening" {
			continue
		}
		addresses := map[string]string{}
		for purpose, address := range line {
			addresses[purpose], _ = address.(string)
		}
		select {
		case listening <- addresses:
		default: // It has said so before.
		}
	}
	// Without a reader the process would block.
	_, _ = io.Copy(io.Discard, output) // after a line that is too long
}

// stop sends SIGTERM, waits for the drain, and returns an error with all output if the exit status
// is not 0.
func (p *Process) stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		_ = p.command.Process.Kill()
		<-p.ended
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(p.command.Path), p.err, p.output.Bytes())
	}
	return nil
}
