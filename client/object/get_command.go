package object

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
)

// getCommand is `client get`.
func getCommand(c *cli.Terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Look an object up",
		Long:  "Shows what is known of an object, without its content. It is one unary call, GetObject.",
		Example: c.Examples(`  PROGRAM get holiday.mp4
  PROGRAM get holiday.mp4 --json | jq -r .generation`),
		Args: cli.Positional(1, 1),
		RunE: c.Find(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				object, err := connect(s).Get(ctx, args[0])
				if err != nil {
					return fmt.Errorf("get %q: %w", args[0], err)
				}
				return writeObject(c.Stdout(), asJSON, object)
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one line of JSON")
	return cmd
}
