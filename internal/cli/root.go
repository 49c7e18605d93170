package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/app"
)

const rootLong = `%s

Streams that break go on where they were, on any replica. A server that is absent at the start is waited for 30 s, one
that goes away later or is busy for as long as it takes; --timeout takes the place of both bounds, for all commands.

What a command finds goes to standard output, everything else to standard error.

Exit codes:
  0    done
  1    failed
  2    wrong usage or configuration
  3    not found
  4    server unavailable, retries given up, or out of time: try later
  5    content was damaged on its way, or changed meanwhile
  130  interrupted

Environment, which flags override:
%s
%s`

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:           c.name,
		Short:         c.About,
		Long:          fmt.Sprintf(rootLong, c.About, c.variables(), app.ExportUsage),
		Version:       c.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.server, "server", "", fmt.Sprintf("where all services are (default $%sSERVER, or localhost:50051)", c.Identity.EnvironmentPrefix()))
	flags.DurationVar(&c.timeout, "timeout", 0, "most time for the whole command, 5m for example (default 30s for servers to answer, and no bound from then on)")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "show no progress and no notes")
	for _, service := range c.Services {
		if service.Commands == nil {
			continue
		}
		var names []string
		for _, descriptor := range service.Descriptors {
			names = append(names, string(descriptor.FullName()))
		}
		root.AddGroup(&cobra.Group{ID: service.Name, Title: fmt.Sprintf("Commands of %s:", strings.Join(names, ", "))})
		for _, cmd := range service.Commands(&Console{c, service}) {
			cmd.GroupID = service.Name
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(c.checkCommand(), c.serveCommand(), c.demoCommand())
	return root
}

// variables is the table of all that can be configured.
func (c *command) variables() string {
	var text strings.Builder
	_, groups := c.groups()
	app.PrintVariables(&text, c.Identity, groups...)
	return text.String()
}

// demoCommand is what the demo of the whole runs; a person has the commands.
func (c *command) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "demo [FILE]",
		Short:  "Show each service at work",
		Hidden: true,
		Args:   Positional(0, 1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.call(ctx, c.Services, func(sessions []Session) error {
				for i, service := range c.Services {
					if service.Demo == nil {
						continue
					}
					if err := service.Demo(ctx, sessions[i], Argument(args, 0), c.show); err != nil {
						return fmt.Errorf("%s: %w", service.Name, err)
					}
				}
				return nil
			})
		}),
	}
}

func (c *command) show(what, format string, args ...any) {
	fmt.Fprintf(c.stdout, "%-10s "+format+"\n", append([]any{what}, args...)...)
}

// Positional wants between least and most arguments, which the usage line names.
func Positional(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%d arguments, expected: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}

// Argument is the i-th argument, or "" if it was left out.
func Argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
