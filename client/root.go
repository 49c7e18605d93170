package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/config"
)

const rootLong = `Quartet keeps objects of any size and lets people talk in channels, over the four modes of gRPC:

  get, list, delete   unary              look something up
  download            server streaming   fetch a big file
  upload              client streaming   send a big file
  chat                bidirectional      talk in real time
  check               all four           see whether everything works

Transfers and conversations that break go on where they were, on any replica. A server that is absent or
busy is waited for; --timeout bounds that and everything else.

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
`

const rootExample = `  quartet upload holiday.mp4
  quartet list
  quartet download holiday.mp4 copy.mp4
  tar c photos | quartet upload - photos.tar
  quartet download photos.tar - | tar x
  quartet chat lobby --as ann`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "quartet",
		Short:         "Keep objects and talk in channels",
		Long:          rootLong + variables() + "\nTraces are exported if OTEL_EXPORTER_OTLP_ENDPOINT is set.",
		Example:       rootExample,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "where both services are (default $QUARTET_SERVER, or localhost:50051)")
	flags.DurationVar(&a.timeout, "timeout", 0, "most time for the whole command, 10s for example (default no bound)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "show no progress and no notes")
	root.AddCommand(
		a.getCommand(), a.listCommand(), a.deleteCommand(),
		a.downloadCommand(), a.uploadCommand(), a.chatCommand(), a.checkCommand(), a.serveCommand(),
	)
	return root
}

// variables is the table of all that can be configured.
func variables() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, v := range config.Usage[Config]() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Description)
	}
	_ = table.Flush() // A builder takes everything.
	return text.String()
}

// positional wants between least and most arguments, which the usage line names.
func positional(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%d arguments, expected: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}

// argument is the i-th argument, or "" if it was left out.
func argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
