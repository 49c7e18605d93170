package object

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
)

func downloadCommand(c *cli.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "download NAME [FILE|-]",
		Short: "Fetch an object",
		Long: `Fetches an object over one server stream, DownloadObject, and goes on where it was when the stream breaks. Every
chunk is verified, and the whole at the end.

FILE is a file, a directory to put the file into, or - for standard output; without it the file is named after
the last element of NAME. A file appears, or replaces the one that was there, once it is complete and verified.
Anything that is no regular file, a pipe for example, is written directly, and so is standard output: what went
there is good only if the exit code is 0.`,
		Example: c.Examples(`  PROGRAM download photos/holiday.mp4            # to holiday.mp4
  PROGRAM download photos/holiday.mp4 /tmp       # to /tmp/holiday.mp4
  PROGRAM download photos.tar - | tar x`),
		Args: cli.Positional(1, 2),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			if cli.Argument(args, 1) == "-" {
				if err := c.NeedStdout(); err != nil {
					return err
				}
			}
			to, err := openDestination(c.Stdout(), args[0], cli.Argument(args, 1))
			if err != nil {
				return err
			}
			err = c.Call(ctx, func(s cli.Session) error {
				return downloadTo(ctx, c, connect(s), args[0], to)
			})
			return to.finish(err)
		}),
	}
}

func downloadTo(ctx context.Context, c *cli.Console, client *Client, name string, to *destination) error {
	bar := c.NewProgress("downloading", false)
	options := DownloadOptions{Progress: func(p Progress) { bar.Update(p.Done, p.Total, p.Resumes) }}
	if _, err := client.Download(ctx, name, to, options); err != nil {
		return err
	}
	bar.End(fmt.Sprintf("downloaded %q to %s", name, to))
	return nil
}
