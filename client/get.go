package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/client/call"
)

func (a *app) getCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Look an object up",
		Long:  "Shows what is known of an object, without its content. It is one unary call, GetObject.",
		Example: `  quartet get holiday.mp4
  quartet get holiday.mp4 --json | jq -r .generation`,
		Args: positional(1, 1),
		RunE: a.command(func(ctx context.Context, args []string) error {
			return a.withObjects(ctx, func(caller *call.Client) error {
				object, err := caller.Get(ctx, args[0])
				if err != nil {
					return fmt.Errorf("get %q: %w", args[0], err)
				}
				return writeObject(a.stdout, asJSON, object)
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one line of JSON")
	return cmd
}
