package object

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
)

// cancelUploadCommand is `client cancel-upload`.
func cancelUploadCommand(c *cli.Terminal) *cobra.Command {
	var options CancelOptions
	cmd := &cobra.Command{
		Use:   "cancel-upload UPLOAD-ID",
		Short: "Cancel an upload that is not finished",
		Long: `Removes what the server has of an upload that is not finished, and ends a command that is
sending it. The id is that of --upload-id. Without it the server keeps the upload for some time,
in case it is continued. Once an upload is finished, delete removes its object.

A call whose answer is lost is made again, and may then find gone what it has cancelled itself:
--allow-missing takes that for success.`,
		Example: c.Examples(`  PROGRAM cancel-upload 018f3f6e-7d1c-4c5e-9a51-6a2f6a2c9b10
  PROGRAM cancel-upload 018f3f6e-7d1c-4c5e-9a51-6a2f6a2c9b10 --allow-missing`),
		Args: cli.Positional(1, 1),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				if err := connect(s).CancelUpload(ctx, args[0], options); err != nil {
					return fmt.Errorf("cancel upload %q: %w", args[0], err)
				}
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&options.AllowMissing, "allow-missing", false,
		"succeed if there is no such upload")
	return cmd
}
