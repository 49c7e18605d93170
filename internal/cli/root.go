package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/config"
)

// root makes the command that has all others, with the flags that all of them take.
func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:     c.name,
		Short:   c.About,
		Version: app.VersionText(c.Identity, component, c.Version),
		// run prints errors itself, on one line and without the usage.
		SilenceErrors: true,
		SilenceUsage:  true,
		// People paste what they read, so it has the path that they typed. Completion goes by the
		// name alone.
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: c.typed},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(usageTemplate)
	help := root.HelpFunc()
	// The overview is one screen; cobra's own help of the root would list flags instead.
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root {
			c.overview(root)
			return
		}
		help(cmd, args)
	})
	// cobra lets these stand before and after the name of a command.
	flags := root.PersistentFlags()
	flags.StringVar(
		&c.server,
		"server",
		"",
		fmt.Sprintf(
			"`host:port` of all services (default $%sSERVER, or localhost:50051)",
			c.Identity.EnvironmentPrefix(),
		),
	)
	flags.StringVar(
		&c.tokenFile,
		"token-file",
		"",
		fmt.Sprintf(
			"`file` with a bearer token to send with each call (default $%sRPC_TOKEN_FILE, or none)",
			c.Identity.EnvironmentPrefix(),
		),
	)
	flags.DurationVar(
		&c.timeout,
		"timeout",
		0,
		"most time for the whole command, 5m for example; see help exit-codes",
	)
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "show no progress and no notes")
	for _, service := range c.Services {
		// It may be called by check, serve and the console only.
		if service.Commands == nil {
			continue
		}
		var names []string
		for _, descriptor := range service.Descriptors {
			names = append(names, string(descriptor.FullName()))
		}
		// The overview lists the commands of a service below the names of its gRPC services.
		root.AddGroup(&cobra.Group{ID: service.Name, Title: strings.Join(names, ", ")})
		for _, cmd := range service.Commands(&Terminal{c, service}) {
			cmd.GroupID = service.Name
			root.AddCommand(cmd)
		}
	}
	root.AddGroup(&cobra.Group{ID: "all", Title: "All services, and the program itself"})
	// cobra adds the command "completion" itself.
	root.SetCompletionCommandGroupID("all")
	for _, cmd := range []*cobra.Command{
		c.checkCommand(), c.loadCommand(), c.serveCommand(), c.consoleCommand(), c.demoCommand(),
	} {
		cmd.GroupID = "all"
		root.AddCommand(cmd)
	}
	// A command without Run is a help topic to cobra.
	root.AddCommand(c.environmentTopic(), c.exitCodesTopic())
	return root
}

// usageTemplate is what the help of a command says below its text. The flags that all commands take
// are in the overview.
const usageTemplate = `Usage: {{.UseLine}}
{{- if .HasExample}}

{{.Example}}
{{- end}}
{{- if .HasAvailableSubCommands}}
{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- end}}

{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- if .HasParent}}
All commands take --server, --token-file, --timeout and --quiet too, see {{.Root.DisplayName}} help.
{{- end}}
`

// overview is the help of the whole: a screen, which names all there is and where to read on.
func (c *command) overview(root *cobra.Command) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s Usage: %s COMMAND ...\n", c.About, c.typed)
	width := 0
	for _, cmd := range root.Commands() {
		width = max(width, len(cmd.Name()))
	}
	for _, group := range root.Groups() {
		fmt.Fprintf(&text, "%s:\n", group.Title)
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID && !cmd.Hidden {
				fmt.Fprintf(&text, "  %-*s  %s\n", width, cmd.Name(), cmd.Short)
			}
		}
	}
	fmt.Fprintf(
		&text,
		"All take --server HOST:PORT, --token-file FILE, --timeout TIME and --quiet. More:\n"+
			"%s help COMMAND, %[1]s help environment, %[1]s help exit-codes, %[1]s --version\n",
		c.typed,
	)
	fmt.Fprint(c.stdout, text.String())
}

// environmentTopic is the page about variables.
func (c *command) environmentTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "environment",
		Short: "The variables that the program reads",
		Long: fmt.Sprintf("Variables, their defaults and what they are. Flags override them.\n%s\n%s",
			c.variables(), app.ExportUsage),
	}
}

// section is a part of the table of variables.
type section struct {
	title    string
	prefixes []string
}

// sections are the groups of the program's own variables, by what their names begin with. What is
// in none is in the first.
var sections = []section{
	{title: "Where the services are"},
	{"Connections", []string{"RPC_"}},
	{"Logs and traces", []string{"LOG_", "TRACE_", "OTLP_"}},
	{"Steady traffic of serve", []string{"INSTANCE", "TRAFFIC_"}},
	{"The console for browsers", []string{"CONSOLE_"}},
	{"The process of serve", []string{"PROBE_", "HTTP_", "PROFILE_", "MEMORY_", "DRAIN_"}},
}

// variables is the table of all that can be configured, by group.
func (c *command) variables() string {
	prefix := c.Identity.EnvironmentPrefix()
	// New groups have the defaults: what this run has loaded does not matter here.
	_, groups := c.groups()
	own := make([][]config.Variable, len(sections))
	for _, v := range config.Usage(prefix, groups[0]) {
		// -1 is a variable that no section has; max puts it into the first.
		at := slices.IndexFunc(sections, func(s section) bool {
			return slices.ContainsFunc(
				s.prefixes,
				func(p string) bool { return strings.HasPrefix(v.Name, prefix+p) },
			)
		})
		own[max(at, 0)] = append(own[max(at, 0)], v)
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	// All sections are one table, so that their columns have one width.
	write := func(title string, variables []config.Variable) {
		fmt.Fprintf(table, "\n%s:\n", title)
		for _, v := range variables {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Description)
		}
	}
	for i, s := range sections {
		write(s.title, own[i])
	}
	for _, service := range c.Services {
		var its []config.Variable
		// A service may have two groups: its SERVER, and its own struct.
		for _, group := range groups[1:] {
			if group.Prefix == service.environmentPrefix() {
				its = append(its, config.Usage(prefix, group)...)
			}
		}
		write("Service "+service.Name, its)
	}
	_ = table.Flush() // A strings.Builder takes everything.
	return text.String()
}

// exitCodesTopic is the page about how commands end.
func (c *command) exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "How commands end, and how long they wait",
		Long: fmt.Sprintf(
			`What a command finds goes to standard output, everything else to standard error.

  0    done
  1    failed
  2    wrong usage or configuration, or a name that is not allowed
  3    not found
  4    server unavailable, or out of time: try later
  5    content was damaged on its way, or changed meanwhile
  130  interrupted by SIGINT, SIGTERM or SIGHUP; a second one ends the program at once

A server that is absent at the start is waited for %v. Streams that break later, because a server goes away, is
busy or says nothing, go on where they were, on any replica, and are tried again for as long as it takes. With
--timeout the whole command, waiting included, takes at most so long, on whatever it waits. That holds for all
commands; load may then, as after a signal, take up to %[2]sTRAFFIC_TIMEOUT to remove what it has stored. A call
of one answer that has begun is given up after %[2]sRPC_UNARY_TIMEOUT.`,
			waitTimeout,
			c.Identity.EnvironmentPrefix(),
		),
	}
}

// demoCommand is for `make demo`; people have the commands of the services.
func (c *command) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "demo [FILE]",
		Short:  "Show each service at work",
		Hidden: true,
		Args:   Positional(0, 1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			return c.call(ctx, c.Services, func(connected []Connection) error {
				for i, service := range c.Services {
					if service.Demo == nil {
						continue
					}
					if err := service.Demo(ctx, connected[i], Argument(args, 0), c.show); err != nil {
						return fmt.Errorf("%s: %w", service.Name, err)
					}
				}
				return nil
			})
		}),
	}
}

// show implements Show: what in a column, the result beside it.
func (c *command) show(what, format string, args ...any) {
	fmt.Fprintf(c.stdout, "%-10s "+format+"\n", append([]any{what}, args...)...)
}

// Positional requires between least and most arguments, which the usage line names.
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
