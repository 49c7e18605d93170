package object

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/rpc"
)

// downloadCommand is `client download`.
func downloadCommand(c *cli.Terminal) *cobra.Command {
	var resume bool
	cmd := &cobra.Command{
		Use:   "download NAME [FILE|-]",
		Short: "Fetch an object",
		Long: `Fetches an object over one server stream, DownloadObject, and goes on where it was when
the stream breaks. Every chunk is verified, and the whole at the end.

FILE is a file, a directory to put the file into, or - for standard output; without it the file is
named after the last element of NAME. A file appears, or replaces the one that was there, once it
is complete and verified. Until then its bytes are in a hidden part beside it, which an
interrupted download leaves there: --continue goes on with it, and a download that begins anew
removes it.

Anything that is no regular file, a pipe for example, is written directly, and so is standard
output: what went there is good only if the exit code is 0.`,
		Example: c.Examples(`  PROGRAM download photos/holiday.mp4            # to holiday.mp4
  PROGRAM download photos/holiday.mp4 /tmp       # to /tmp/holiday.mp4
  PROGRAM download photos/holiday.mp4 --continue
  PROGRAM download photos.tar - | tar x`),
		Args: cli.Positional(1, 2),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			// A process that was started without a standard output has nowhere to write to.
			if cli.Argument(args, 1) == "-" {
				if err := c.NeedStdout(); err != nil {
					return err
				}
			}
			// Before any call: a destination that cannot be written is told at once.
			to, err := openDestination(c.Stdout(), args[0], cli.Argument(args, 1), c.Note)
			if err != nil {
				return err
			}
			if resume && to.place == "" {
				return cli.UsageError(fmt.Errorf("--continue needs a regular file, and %s is none", to))
			}
			return c.Call(ctx, func(s cli.Connection) error {
				err := downloadTo(ctx, c, connect(s), args[0], to, resume)
				// A part is kept only after errors that say nothing against its content: an interruption, or
				// servers that are away.
				return to.finish(err, ctx.Err() != nil || cli.IsUnavailable(err))
			})
		}),
	}
	cmd.Flags().BoolVar(&resume, "continue", false,
		"go on with what an interrupted download of the same object has left beside FILE")
	return cmd
}

// downloadTo downloads to a destination. If the object has changed since the part was left that is
// to be continued, it begins anew, once.
func downloadTo(
	ctx context.Context, c *cli.Terminal, client *Client, name string, to *destination, resume bool,
) error {
	// The part is read before the call: its size is the offset to ask for.
	if resume {
		if err := to.resume(); err != nil {
			return err
		}
	}
	bar := c.NewProgress("downloading", to.size > 0)
	// Until the object is known, nothing new has been written.
	begun := false
	options := DownloadOptions{
		Generation: to.generation, Offset: to.size, Before: &to.crc,
		Progress: func(p Progress) {
			bar.Update(to.size+p.Done, to.size+p.Safe, to.size+p.Total, p.Resumes)
		},
		Begin: func(object *quartetv1.Object) error {
			begun = true
			err := to.begin(object)
			if err == nil && to.continues() {
				c.Hint("to continue, add: --continue")
			}
			if to.size > 0 {
				bar.Update(to.size, to.size, int64(object.GetSizeBytes()), 0)
			}
			return err
		},
	}
	_, err := client.Download(ctx, name, to, options)
	if to.generation != 0 && !begun && (errors.Is(err, ErrChanged) || rpc.Reason(err) == "OUT_OF_RANGE") {
		c.Note("%q has changed since: beginning anew", name)
		to.discard()
		return downloadTo(ctx, c, client, name, to, false)
	}
	if err != nil {
		return err
	}
	bar.End(fmt.Sprintf("downloaded %q to %s", name, to))
	return nil
}
