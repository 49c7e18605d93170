// The benchmarks: what instrumentation costs, and how fast big files are, measured in one run and in turns, so that
// what the machine does to one variant it does to all. `make bench` runs them; docs/benchmarks.md has how they measure,
// and results.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/quartet/test/bench/cost"
	"example.com/quartet/test/bench/files"
)

func main() {
	child, err := child(os.Args[1:])
	if !child {
		err = bench(os.Stdout, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // This is a main package.
	}
}

// child does the work of a child if the arguments are those of one, and says whether they were.
func child(arguments []string) (bool, error) {
	if is, err := cost.Child(arguments); is {
		return true, err
	}
	return files.Child(arguments)
}

// bench fails only if it cannot measure. A goal that is not met is a result.
func bench(out io.Writer, arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all := append(cost.Parts(), files.Parts()...)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	run := flags.String("run", strings.Join(all, ","), "what to measure")
	rounds := flags.Int("rounds", 11, "how often each variant is measured")
	slice := flags.Duration("slice", 250*time.Millisecond, "how long each time")
	fileRounds := flags.Int("file-rounds", 7, "how often each variant is measured with big files")
	fileMiB := flags.Int64("file-mib", 256, "how many MiB each time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if min(*rounds, *fileRounds) < 1 || *slice <= 0 || *fileMiB < 1 {
		return fmt.Errorf("%d rounds of %s, and %d of %d MiB, measure nothing", *rounds, *slice, *fileRounds, *fileMiB)
	}
	small, big, err := choose(strings.Split(*run, ","))
	if err == nil && len(small) > 0 {
		err = cost.Run(ctx, out, cost.Options{Rounds: *rounds, Slice: *slice, Parts: small})
	}
	if err == nil && len(big) > 0 {
		err = files.Run(ctx, out, files.Options{Rounds: *fileRounds, Bytes: *fileMiB << 20, Parts: big})
	}
	return err
}

// choose tells the two kinds of parts apart.
func choose(names []string) (small, big []string, err error) {
	for _, name := range names {
		switch {
		case slices.Contains(cost.Parts(), name):
			small = append(small, name)
		case slices.Contains(files.Parts(), name):
			big = append(big, name)
		default:
			return nil, nil, fmt.Errorf("there is no part %q, only %v", name, append(cost.Parts(), files.Parts()...))
		}
	}
	return small, big, nil
}
