package object

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
)

// listCommand is `client list`.
func listCommand(c *cli.Terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List objects",
		Long: `Lists the objects whose names begin with PREFIX, or all, in the byte order of their names.
Pages are fetched with ListObjects as they are needed, so that a list of any length takes no
memory. get has the rest of an object.`,
		Example: c.Examples(`  PROGRAM list
  PROGRAM list photos/
  PROGRAM list --json | jq -r .name`),
		Args: cli.Positional(0, 1),
		RunE: c.Find(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				return list(ctx, c, connect(s), cli.Argument(args, 0), asJSON)
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write each object as one line of JSON")
	return cmd
}

// list writes a row for each object as its page arrives. What was written before an error is shown
// as well.
func list(ctx context.Context, c *cli.Terminal, client *Client, prefix string, asJSON bool) error {
	out := bufio.NewWriter(c.Stdout())
	n := 0
	for object, err := range client.List(ctx, prefix) {
		if err != nil {
			return errors.Join(fmt.Errorf("list %q: %w", prefix, err), out.Flush())
		}
		if err := writeRow(out, asJSON, n == 0, object); err != nil {
			return err
		}
		n++
	}
	// A note, which goes to standard error, so that a program that reads the list sees an empty one.
	if n == 0 {
		c.Note("no objects")
	}
	return out.Flush()
}

// writeRow writes a row of a table that is aligned without having been seen as a whole: the name,
// which may have any length, is last.
func writeRow(out *bufio.Writer, asJSON, first bool, o *quartetv1.Object) error {
	if asJSON {
		return cli.WriteJSON(out, listed{o.GetName(), o.GetSizeBytes(), o.GetCreateTime().AsTime()})
	}
	if first {
		fmt.Fprintf(out, "%10s  %-16s  %s\n", "SIZE", "CREATED", "NAME")
	}
	_, err := fmt.Fprintf(out, "%10s  %-16s  %s\n", size(o), created(o), cli.Printable(o.GetName()))
	return err
}
