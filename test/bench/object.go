package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"example.com/quartet/test/bench/object"
)

// bigFiles measures how fast objects are transferred.
type bigFiles struct {
	rounds int
	mib    int64
}

var _ = register(new(bigFiles))

func (f *bigFiles) parts() []string { return object.Parts() }

func (f *bigFiles) child(arguments []string) (bool, error) { return object.Child(arguments) }

func (f *bigFiles) flags(flags *flag.FlagSet) {
	flags.IntVar(&f.rounds, "file-rounds", 7, "how often each variant is measured with big files")
	flags.Int64Var(&f.mib, "file-mib", 256, "how many MiB each time")
}

func (f *bigFiles) check() error {
	if f.rounds < 1 || f.mib < 1 {
		return fmt.Errorf("%d rounds of %d MiB measure nothing", f.rounds, f.mib)
	}
	return nil
}

func (f *bigFiles) run(ctx context.Context, out io.Writer, parts []string) error {
	return object.Run(
		ctx, out, object.Options{Rounds: f.rounds, Bytes: f.mib << 20, Parts: parts},
	)
}
