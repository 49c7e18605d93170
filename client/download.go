package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"example.com/quartet/client/call"
)

func (a *app) downloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "download NAME [FILE|-]",
		Short: "Fetch an object",
		Long: `Fetches an object over one server stream, DownloadObject, and goes on where it was when the stream breaks. Every
chunk is verified, and the whole at the end.

FILE is a file, a directory to put the file into, or - for standard output; without it the file is named after
the last element of NAME. A file appears, or replaces the one that was there, once it is complete and verified.
Anything that is no regular file, a pipe for example, is written directly, and so is standard output: what went
there is good only if the exit code is 0.`,
		Example: `  quartet download photos/holiday.mp4            # to holiday.mp4
  quartet download photos/holiday.mp4 /tmp       # to /tmp/holiday.mp4
  quartet download photos.tar - | tar x`,
		Args: positional(1, 2),
		RunE: a.command(func(ctx context.Context, args []string) error {
			to, err := a.openTarget(args[0], argument(args, 1))
			if err != nil {
				return err
			}
			err = a.withObjects(ctx, func(caller *call.Client) error {
				return a.download(ctx, caller, args[0], to)
			})
			return to.finish(err)
		}),
	}
}

func (a *app) download(ctx context.Context, caller *call.Client, name string, to *target) error {
	progress := a.newProgress("downloading")
	if _, err := caller.Download(ctx, name, to, call.DownloadOptions{Progress: progress.update}); err != nil {
		return err
	}
	progress.done(fmt.Sprintf("downloaded %q to %s", name, to))
	return nil
}
