// Package cli is the frame of a command line that calls services: configuration, connections, notes
// to people, output, exit codes, and the commands that every such program has: check, and serve for
// steady traffic. It knows no service by name; a program gives it a list.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
)

// Service is what the command line asks of each service that it can call. All but the first two may
// be left out.
type Service struct {
	// Name is that of its folder: "customer". Its variables have it as their prefix, in upper case.
	Name string
	// Descriptors are what it has in the contract: one gRPC service, or several.
	Descriptors []protoreflect.ServiceDescriptor
	// Config points to the struct of its variables, which is filled before anything else is called.
	Config any
	// Commands are what people can do with it.
	Commands func(*Terminal) []*cobra.Command
	// Check makes the calls that prove that it works, and removes what they made.
	Check func(Connection) []Step
	// Traffic is its part of the steady traffic of serve.
	Traffic func(Connection) traffic.Source
	// LeftBehind says how people remove what load may have left of the Traffic of all instances whose
	// names begin with instances, if it was cut before it could do so itself.
	LeftBehind func(c *Terminal, instances string) string
	// Demo uses the service for its real purpose, with file if it is not "" and the service takes
	// files, and reports each step by show.
	Demo func(ctx context.Context, conn Connection, file string, show Show) error
	// Panel is its own page in the console, under its Name: console.Panel.Name is set from that.
	Panel func(Connection) (console.Panel, error)
	// IsDamage reports whether an error means that content was damaged or has changed meanwhile.
	IsDamage func(error) bool
}

// method is the RPC of that name, or nil if there is none.
func (s Service) method(name string) protoreflect.MethodDescriptor {
	for _, descriptor := range s.Descriptors {
		if method := descriptor.Methods().ByName(protoreflect.Name(name)); method != nil {
			return method
		}
	}
	return nil
}

// Connection is a connection to a service, for as long as a command or the process runs.
type Connection struct {
	// Conn carries all services of a target, and lives as long as the Connection.
	Conn grpc.ClientConnInterface
	// Telemetry is that of the process. Its Metrics may be a registry of their own, as for the
	// console.
	Telemetry *telemetry.Telemetry
	// Instance is the name of this process in what it stores, unique among those that call the same
	// servers.
	Instance string
	// Bytes is the size of what the traffic stores, 0 for the one that its configuration says.
	Bytes int64
	// Resumption is how streams that break are continued: in a command for as long as --timeout
	// lets it.
	Resumption rpc.Resumption
}

// Step is a call of a check.
type Step struct {
	// Method is the RPC's name in the first of the Descriptors that has it.
	Method string
	// Do makes the call and verifies the answer.
	Do func(ctx context.Context) error
	// CleanUp says that the step removes what those before it have made. It is done also after one
	// that has failed, or was interrupted, with the time of one operation.
	CleanUp bool
}

// Show prints a step of a demo and its result.
type Show func(what, format string, args ...any)

// Program is a command line.
type Program struct {
	Identity app.Identity
	Version  string
	// About is what the help says first: a line about what the services are for.
	About    string
	Services []Service
	// Contract is an encoded FileDescriptorSet with source information, whose comments the console
	// shows. It may be left out.
	Contract []byte
}

// component is what the program is called beside the product.
const component = "client"

// Main is the main function with its surroundings as parameters. It returns the exit code, as the
// help of the root command explains it. SIGINT, SIGTERM and SIGHUP end the command, unless it was
// started with SIGHUP ignored, as by nohup; the second of them does so at once.
func (p Program) Main(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// There is room for both signals: os/signal drops what a channel cannot take.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := p.command(environ, stdin, stdout, stderr)
	// The goroutine ends with the process, if no second signal comes.
	go func() {
		<-signals
		// The first signal: the command ends by itself, and serve drains.
		cancel()
		<-signals
		// The second: interruptible returns at once.
		close(c.again)
	}()
	return c.run(ctx, args)
}

// Run is Main with a context that ends with the signal.
func (p Program) Run(
	ctx context.Context,
	args, environ []string,
	stdin io.Reader,
	stdout, stderr io.Writer,
) int {
	return p.command(environ, stdin, stdout, stderr).run(ctx, args)
}

// command makes a run of the program. Its parts know each other: a result that is written on
// standard output ends an outage.
func (p Program) command(environ []string, stdin io.Reader, stdout, stderr io.Writer) *command {
	c := &command{
		Program: p, environ: environ, stdin: stdin, stderr: newScreen(stderr, environ),
		again: make(chan struct{}),
	}
	c.outage.command = c
	c.stdout = &result{to: stdout, outage: &c.outage}
	return c
}

// command is one run of the program, with all it knows of its surroundings.
type command struct {
	Program
	environ []string
	// stdin may be closed, see NeedStdin.
	stdin io.Reader
	// stdout and stderr belong to the terminal or to a pipe. stderr has notes, progress, logs and
	// errors.
	stdout *result
	stderr *screen

	name  string // what the program was started as, without a path
	typed string // and with it, as a shell takes it
	// server, tokenFile, timeout and quiet are the flags that all commands take.
	server    string
	tokenFile string
	timeout   time.Duration
	quiet     bool

	// progress is that of the transfer, nil if there is none.
	progress *Progress
	outage   outage
	// again is closed with the second signal.
	again chan struct{}
	// hint is how to go on with what was interrupted.
	// It is set by the goroutine of the command, and read by run while that may still be going on.
	// restore is used in the same way.
	hint atomic.Pointer[string]
	// restore puts the terminal back into its former mode.
	restore atomic.Pointer[func()]

	// started is set when the command line has been parsed; config is there from then on.
	started bool
	config  *clientConfig
}

// run runs the command that args name.
func (c *command) run(ctx context.Context, args []string) int {
	c.name, c.typed = filepath.Base(args[0]), args[0]
	// A path that a shell would split or expand is quoted, so that examples of the help can be pasted.
	if strings.ContainsAny(c.typed, " \t'\"\\$`&;()<>|*?[#~%!{") {
		c.typed = "'" + strings.ReplaceAll(c.typed, "'", `'\''`) + "'"
	}
	// A mistake in the list of services is one of the program; it shows with every command.
	if err := c.validate(); err != nil {
		err = usageError{err}
		fmt.Fprintf(c.stderr, "%s: %s\n", c.name, message(err))
		return c.exitCode(err)
	}
	// The commands are made for each run: their flags are fields of c.
	root := c.root()
	root.SetArgs(args[1:])
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	// called is the command that the arguments name, also if it was not run.
	called, err := root.ExecuteContextC(ctx)
	// Whatever the command was doing to the terminal ends before the last lines are written.
	c.outage.stop()
	if restore := c.restore.Load(); restore != nil {
		(*restore)()
	}
	// A result that could not be written is a failure, even if the command did not notice. An error of
	// the command itself comes first, since it is more likely to be the cause.
	if lost := c.stdout.failure(); lost != nil && (err == nil || !c.started) {
		err = lost
	} else if err != nil && !c.started {
		// cobra's own errors, such as those for an unknown flag, come before the command has started.
		err = usageError{fmt.Errorf("%w\nsee %s --help", err, called.CommandPath())}
	}
	if err != nil {
		fmt.Fprintf(c.stderr, "%s: %s\n", c.name, message(err))
	}
	code := c.exitCode(err)
	// Only in these cases the same command may go on later.
	if code == exitInterrupted || code == exitUnavailable {
		if hint := c.hint.Swap(nil); hint != nil && *hint != "" {
			fmt.Fprintln(c.stderr, *hint)
		}
	}
	return code
}

// grace is how long a command that was interrupted has to end by itself. It may be blocked on a
// pipe, which no context interrupts.
const grace = time.Second

// interruptible returns what do returns, or soon after ctx is done or at the second signal without
// it. The command serve has all the time that its drain takes, and load and check that of one
// operation, to remove what they have stored.
func (c *command) interruptible(ctx context.Context, name string, do func() error) error {
	// The goroutine may be left behind: run returns, and the process ends.
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// A channel that is nil is never ready, so that serve waits for its drain or the second signal.
	var late <-chan time.Time
	switch name {
	case serve:
	case load, check:
		late = time.After(max(grace, c.config.Timeout))
	default:
		late = time.After(grace)
	}
	select {
	case err := <-done:
		return err
	case <-late:
	case <-c.again:
	}
	// The command goes on in its goroutine until the process exits.
	return c.ended(ctx, errInterrupted)
}

// do is what a command does, once the configuration is read.
func (c *command) do(
	do func(ctx context.Context, args []string) error,
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		// From here on an error is one of the command, and not of the command line.
		c.started = true
		if err := c.loadConfig(cmd.Name() != serve); err != nil {
			return usageError{fmt.Errorf("configuration\n%w", err)}
		}
		if err := c.validateArguments(cmd, args); err != nil {
			return usageError{err}
		}
		// It has an effect only where MEMORY_LIMIT is set, as in a pod.
		c.config.Process.LimitMemory()
		// The flag wins over the environment, and over what single services have there.
		if cmd.Flags().Changed("server") {
			// Blanks around a flag mean as little as those around a variable.
			server, err := parseTarget(strings.TrimSpace(c.server))
			if err != nil {
				return usageError{fmt.Errorf("--server=%q: %w", config.Masked(c.server), err)}
			}
			c.config.useServer(server)
		}
		if cmd.Flags().Changed("token-file") {
			c.config.RPC.TokenFile = c.tokenFile
		}
		ctx := cmd.Context()
		if c.timeout > 0 {
			var cancel context.CancelFunc
			// The cause tells the timeout of the command from the deadline of a single call.
			ctx, cancel = context.WithTimeoutCause(
				ctx,
				c.timeout,
				fmt.Errorf("%w %v", errTimeout, c.timeout),
			)
			defer cancel()
		}
		return c.interruptible(ctx, cmd.Name(), func() error { return do(ctx, args) })
	}
}

// validateArguments finds what no command takes: a limit of time that is none, and text that is not
// UTF-8, which gRPC cannot send. Only the name of a file may have any bytes.
func (c *command) validateArguments(cmd *cobra.Command, args []string) (err error) {
	if cmd.Flags().Changed("timeout") && c.timeout <= 0 {
		return fmt.Errorf("--timeout=%v: has to be more than zero", c.timeout)
	}
	// Visit calls only for flags that were set.
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !utf8.ValidString(f.Value.String()) {
			err = fmt.Errorf("--%s=%q: is not UTF-8", f.Name, f.Value.String())
		}
	})
	// The usage line names the arguments: "copy NAME [FILE]".
	names := strings.Fields(cmd.Use)[1:]
	for i, arg := range args {
		if i < len(names) && strings.Contains(names[i], "FILE") || utf8.ValidString(arg) {
			continue
		}
		return fmt.Errorf("%s=%q: is not UTF-8", strings.Trim(names[min(i, len(names)-1)], "[.]"), arg)
	}
	return err
}

// ended says why a command ended, where it was not the command itself.
func (c *command) ended(ctx context.Context, err error) error {
	switch {
	// The last has its reason with it.
	case err == nil || ctx.Err() == nil || errors.Is(err, errTimeout):
		return err
	// The command's own limit ended the call, whatever gRPC made of it.
	case errors.Is(context.Cause(ctx), errTimeout):
		return context.Cause(ctx)
	default:
		return errInterrupted
	}
}

// note tells a person something that is neither the result nor an error.
func (c *command) note(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintf(c.stderr, format+"\n", args...)
	}
}

// Terminal is what the commands of a service have in common: the terminal or pipes, the options,
// the connection.
type Terminal struct {
	command *command
	service Service
}

// Stdin is standard input.
func (c *Terminal) Stdin() io.Reader { return c.command.stdin }

// Stdout is where results go.
func (c *Terminal) Stdout() io.Writer { return c.command.stdout }

// Stderr is where everything else goes.
func (c *Terminal) Stderr() io.Writer { return c.command.stderr }

// Note tells a person something that is neither the result nor an error, unless --quiet.
func (c *Terminal) Note(format string, args ...any) { c.command.note(format, args...) }

// Hint says how to go on, or what is left to do, if the command is interrupted from now on or ends
// because the server is not available.
func (c *Terminal) Hint(format string, args ...any) {
	hint := fmt.Sprintf(format, args...)
	c.command.hint.Store(&hint)
}

// Do makes the RunE of a command. do is called when the configuration is read; its context ends
// with --timeout or a signal.
func (c *Terminal) Do(
	do func(ctx context.Context, args []string) error,
) func(*cobra.Command, []string) error {
	return c.command.do(do)
}

// Find is Do for a command whose result goes to standard output, without which it is not begun.
func (c *Terminal) Find(
	do func(ctx context.Context, args []string) error,
) func(*cobra.Command, []string) error {
	return c.Do(func(ctx context.Context, args []string) error {
		if err := c.NeedStdout(); err != nil {
			return err
		}
		return do(ctx, args)
	})
}

// Call does something with the service, once its server says that it is serving. Of a service with
// several Descriptors it is the whole server that says so.
func (c *Terminal) Call(ctx context.Context, do func(Connection) error) error {
	return c.command.call(
		ctx,
		[]Service{c.service},
		func(connected []Connection) error { return do(connected[0]) },
	)
}

// Examples puts the program's name, as it was started, in place of each "PROGRAM".
func (c *Terminal) Examples(text string) string {
	return strings.ReplaceAll(text, "PROGRAM", c.command.typed)
}
