package object

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
)

// deleteCommand is `client delete`.
func deleteCommand(c *cli.Terminal) *cobra.Command {
	var options DeleteOptions
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an object",
		Long: `Deletes an object and its content. With --generation, which get shows, only that very
content is deleted, and nothing that has replaced it meanwhile.

A call whose answer is lost is made again, and may then find gone what it has deleted itself:
--allow-missing takes that for success.`,
		Example: c.Examples(`  PROGRAM delete holiday.mp4
  PROGRAM delete holiday.mp4 --generation 1790000000000000001
  PROGRAM delete holiday.mp4 --allow-missing`),
		Args: cli.Positional(1, 1),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				if err := connect(s).Delete(ctx, args[0], options); err != nil {
					return fmt.Errorf("delete %q: %w", args[0], err)
				}
				return nil
			})
		}),
	}
	cmd.Flags().Int64Var(&options.Generation, "generation", 0,
		"delete only this generation (default whichever is there)")
	cmd.Flags().BoolVar(&options.AllowMissing, "allow-missing", false,
		"succeed if there is no such object")
	return cmd
}
