// The benchmarks: what instrumentation costs, measured in one run and in turns, so that what the machine does to one
// variant it does to all. `make bench` runs them; docs/benchmarks.md has how they measure, and results.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/quartet/bench/cost"
)

func main() {
	child, err := cost.Child(os.Args[1:])
	if !child {
		err = bench(os.Stdout, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // This is a main package.
	}
}

// bench fails only if it cannot measure. A goal that is not met is a result.
func bench(out io.Writer, arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rounds := flags.Int("rounds", 11, "how often each variant is measured")
	slice := flags.Duration("slice", 250*time.Millisecond, "how long each time")
	run := flags.String("run", strings.Join(cost.Parts(), ","), "what to measure")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *rounds < 1 || *slice <= 0 {
		return fmt.Errorf("%d rounds of %s measure nothing", *rounds, *slice)
	}
	return cost.Run(ctx, out, cost.Options{Rounds: *rounds, Slice: *slice, Parts: strings.Split(*run, ",")})
}
