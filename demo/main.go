// The demo shows the pair at work: it builds server and client, starts them as two processes, has
// the client show each service, and prints what both measured and traced. It knows no service by
// name. `make demo` runs it.
//
// ONCE=1 ends it after that, with status 0 if everything was right; otherwise the traffic goes on
// until Ctrl-C. FILE names a file for services that take one, in place of content of their own
// making. Values that cannot be are answered with status 2 before anything is built.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/quartet"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/config"
	"example.com/quartet/test/process"
)

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal kills.
	file := os.Getenv("FILE")
	once, err := parseOnce(os.Getenv("ONCE"))
	if err = errors.Join(err, checkFile(file)); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	if err := run(ctx, file, once); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// parseOnce reads ONCE as Go reads a truth value: 1 and true, 0 and false. Empty is false.
func parseOnce(value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	once, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("ONCE=%q: has to be 1 or 0", value)
	}
	return once, nil
}

// checkFile refuses what cannot be read from its begin to its end. No file is fine.
func checkFile(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("FILE: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("FILE: %s is not a regular file", path)
	}
	return nil
}

// run does everything in a temporary folder, and leaves nothing behind.
func run(ctx context.Context, file string, once bool) error {
	dir, err := os.MkdirTemp("", quartet.Identity.Name+"-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	collector, err := startCollector(ctx)
	if err != nil {
		return err
	}
	defer collector.stop()
	p := &pair{dir: dir, collector: collector}
	return p.end(ctx, p.show(ctx, file, once))
}

// show builds the programs, starts them, and prints what they do.
func (p *pair) show(ctx context.Context, file string, once bool) error {
	if err := build(ctx, p.dir); err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.tour(ctx, file); err != nil {
		return err
	}
	if err := report(ctx, p); err != nil {
		return err
	}
	if err := p.verdict(ctx); err != nil || once {
		return err
	}
	return p.watch(ctx)
}

// end stops the programs. What Ctrl-C has cut, with err, did not fail. A program that does not stop
// cleanly has failed, however the demo has come to its end.
func (p *pair) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, p.stop())
}

// buildInterval is how often the demo says that it still builds.
const buildInterval = 5 * time.Second

// build compiles both programs, which takes a minute the first time and a second later on.
func build(ctx context.Context, dir string) error {
	step("build", "server and client, which takes about a minute the first time")
	began := time.Now()
	ticker := time.NewTicker(buildInterval)
	defer ticker.Stop()
	built := make(chan error, 1)
	go func() {
		built <- process.Build(ctx, dir, []string{"example.com/quartet/server", "example.com/quartet/client"})
	}()
	for {
		select {
		case err := <-built:
			return err
		case <-ticker.C:
			step("", "still building, %.0f s so far", time.Since(began).Seconds())
		}
	}
}

// step prints what happens now.
func step(what, detail string, values ...any) {
	fmt.Printf("%-10s "+detail+"\n", append([]any{what}, values...)...)
}

// pair is the two processes.
type pair struct {
	dir       string
	collector *collector

	server, client  *process.Process
	serverAddresses map[string]string
	clientAddresses map[string]string
}

// start starts the server, and the client with its steady traffic.
func (p *pair) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	logs, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	loopback := []string{process.Setting("PROBE_ADDRESS", "127.0.0.1:0"), process.Setting("HTTP_ADDRESS", "127.0.0.1:0")}
	p.server, err = process.StartIn(p.dir, filepath.Join(p.dir, "server"),
		append(append(p.tracing(), loopback...), process.Setting("GRPC_ADDRESS", "127.0.0.1:0")), logs)
	if err != nil {
		return err
	}
	if p.serverAddresses, err = p.server.Addresses(ctx); err != nil {
		return p.withLog(err)
	}
	step("server", "process %d answers gRPC on %s", p.server.PID(), p.serverAddresses["grpc"])
	p.client, err = process.StartIn(p.dir, filepath.Join(p.dir, "client"), append(append(p.clientEnvironment(), loopback...), process.Setting("CONSOLE_ADDRESS", "127.0.0.1:0")), logs, "serve")
	if err != nil {
		return err
	}
	if p.clientAddresses, err = p.client.Addresses(ctx); err != nil {
		return p.withLog(err)
	}
	step("client", "process %d makes steady traffic in the four modes", p.client.PID())
	if err := p.openPage(ctx); err != nil {
		return p.withLog(err)
	}
	step("console", "any method can be called from a browser at %s", p.page())
	return nil
}

// page is where the console is.
func (p *pair) page() string { return "http://" + p.clientAddresses["console"] + "/" }

// openPage looks whether the console answers, with a page and with all services.
func (p *pair) openPage(ctx context.Context) error {
	for path, part := range map[string]string{"": "<html", "api/catalogue": quartet.Identity.Name} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.page()+path, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("console: %w", err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return fmt.Errorf("console: %w", err)
		}
		if response.StatusCode != http.StatusOK || !strings.Contains(string(text), part) {
			return fmt.Errorf("console: %s%s answers %s without %q", p.page(), path, response.Status, part)
		}
	}
	return nil
}

// withLog adds what the processes logged to an error that they caused.
func (p *pair) withLog(err error) error {
	log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return fmt.Errorf("%w\n%s", err, log)
}

// tracing sends every span to the demo's collector, soon.
func (p *pair) tracing() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + p.collector.address,
		"OTEL_TRACES_SAMPLER=always_on",
		"OTEL_BSP_SCHEDULE_DELAY=100", // milliseconds
	}
}

func (p *pair) clientEnvironment() []string {
	return append(p.tracing(), process.Setting("SERVER", p.serverAddresses["grpc"]))
}

// tour has the client show each service, as a command of its own that prints what it does.
func (p *pair) tour(ctx context.Context, file string) error {
	arguments := []string{"demo"}
	if file != "" {
		arguments = append(arguments, file)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(p.dir, "client"), arguments...)
	command.Env = process.Environ(p.clientEnvironment()...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("client %q: %w", arguments, err)
	}
	return nil
}

// stop ends the client first, so that it does not see the server go. Each has to drain cleanly,
// once it listens; before that, a signal may find it without a handler. Each may take all the time
// that a program gives itself, and a little more to exit.
func (p *pair) stop() error {
	drain, err := config.Defaults[app.DrainConfig]()
	if err != nil {
		return err
	}
	var problems []error
	for _, child := range []struct {
		*process.Process
		addresses map[string]string
	}{{p.client, p.clientAddresses}, {p.server, p.serverAddresses}} {
		if child.Process == nil {
			continue
		}
		if err := child.Stop(drain.Budget + 10*time.Second); err != nil && child.addresses != nil {
			problems = append(problems, p.withLog(err))
		}
	}
	return errors.Join(problems...)
}
