package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"example.com/quartet/test/bench/channel"
)

// channels measures how long messages take in channels, and what silent participants cost.
type channels struct {
	channel.Options
}

var _ = register(new(channels))

func (c *channels) parts() []string { return channel.Parts() }

func (c *channels) child(arguments []string) (bool, error) {
	return channel.Child(arguments)
}

func (c *channels) flags(flags *flag.FlagSet) {
	flags.IntVar(&c.Rounds, "message-rounds", 11, "how often each variant is measured with messages")
	flags.IntVar(&c.Messages, "messages", 500, "how many messages, or calls, each time")
	flags.IntVar(&c.Participants, "participants", 100, "how many participants a large channel has")
	flags.IntVar(&c.Silent, "silent", 10_000, "how many participants are silent, each in a channel")
}

func (c *channels) check() error {
	if c.Rounds < 1 || c.Messages < 1 || c.Participants < 1 || c.Silent < 1 {
		return fmt.Errorf("%+v measures nothing", c.Options)
	}
	return nil
}

func (c *channels) run(ctx context.Context, out io.Writer, parts []string) error {
	c.Parts = parts
	return channel.Run(ctx, out, c.Options)
}
