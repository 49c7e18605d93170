// Client calls Quartet's services: by hand, with a command for each thing they can do, and as a service of its own
// that keeps steady traffic going and judges it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run()) }

// run ends cleanly on the first signal. After it the default holds again, so that the second one kills.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	a := &app{environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: newScreen(os.Stderr)}
	return a.run(ctx, os.Args[1:])
}

// app is one run of the program, with all it knows of the world outside.
type app struct {
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  *screen

	server  string
	timeout time.Duration
	quiet   bool

	// started says that the command line was understood; config is there from then on.
	started bool
	config  Config
}

// run runs the command that args name, and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError{fmt.Errorf("%w\nsee %s --help", err, command.CommandPath())}
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "quartet: %s\n", message(err))
	}
	return exitCode(err)
}

// command is what a command does, once the configuration is read.
func (a *app) command(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		var err error
		if a.config, err = loadConfig(a.environ, cmd.Name() != "serve"); err != nil {
			return usageError{fmt.Errorf("configuration\n%w", err)}
		}
		if cmd.Flags().Changed("server") {
			a.config.Server, a.config.ObjectsServer, a.config.ChannelsServer = a.server, "", ""
			if err := checkTarget("--server", a.server); err != nil {
				return usageError{err}
			}
		}
		ctx := cmd.Context()
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, a.timeout, errTimeout)
			defer cancel()
		}
		return do(ctx, args)
	}
}

// ended says who ended a command, where it was not the command itself.
func (a *app) ended(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(context.Cause(ctx), errTimeout):
		return fmt.Errorf("%w %v", errTimeout, a.timeout)
	default:
		return errInterrupted
	}
}

// note tells a person something that is neither the result nor an error.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}
