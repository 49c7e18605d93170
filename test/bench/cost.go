package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"example.com/quartet/test/bench/cost"
)

// costs measures what instrumentation costs.
type costs struct {
	rounds int
	slice  time.Duration
}

var _ = register(new(costs))

func (c *costs) parts() []string { return cost.Parts() }

func (c *costs) child(arguments []string) (bool, error) { return cost.Child(arguments) }

func (c *costs) flags(flags *flag.FlagSet) {
	flags.IntVar(&c.rounds, "rounds", 11, "how often each variant is measured")
	flags.DurationVar(&c.slice, "slice", 250*time.Millisecond, "how long each time")
}

func (c *costs) check() error {
	if c.rounds < 1 || c.slice <= 0 {
		return fmt.Errorf("%d rounds of %s measure nothing", c.rounds, c.slice)
	}
	return nil
}

func (c *costs) run(ctx context.Context, out io.Writer, parts []string) error {
	return cost.Run(ctx, out, cost.Options{Rounds: c.rounds, Slice: c.slice, Parts: parts})
}
