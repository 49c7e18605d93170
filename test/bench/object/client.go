package object

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/quartet/test/bench/child"
)

// Nothing is the argument of a question that needs none.
type Nothing int

// Load is what a client is told to do.
type Load struct {
	Upload    bool
	Transfers int   // at once
	Bytes     int64 // of each
	Check     bool  // Compare checksums even if the variant has none.
}

// Client is the client of one variant, as its parent sees it.
type Client struct {
	variant
	address string
	mover   mover // nil before the first load
}

func (v variant) job(load Load) Job {
	return Job{
		Upload: load.Upload, Bytes: load.Bytes,
		Place: v.place, Sync: v.sync, Check: v.check || load.Check,
	}
}

// Connect makes new connections for a load in place of those there are, and whatever else is no
// part of a transfer.
func (c *Client) Connect(load Load, _ *Nothing) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.disconnect()
	var err error
	if c.mover, err = c.connect(ctx, c.address, connections(c.variant, load)); err != nil {
		return err
	}
	return c.mover.prepare(ctx, c.job(load))
}

func connections(v variant, load Load) int {
	if v.own {
		return load.Transfers
	}
	return 1
}

func (c *Client) disconnect() {
	if c.mover != nil {
		c.mover.close()
	}
	c.mover = nil
}

// Run makes the transfers, and says how long they took from the first one's begin to the last one's
// end.
func (c *Client) Run(load Load, answer *time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	sums, start := make([]Sum, load.Transfers), time.Now()
	for i := range sums {
		group.Go(func() (err error) {
			sums[i], err = c.move(ctx, load)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	*answer = time.Since(start)
	var problems []error
	for _, sum := range sums {
		problems = append(problems, c.job(load).confirm(sum))
	}
	return errors.Join(problems...)
}

func (c *Client) move(ctx context.Context, load Load) (Sum, error) {
	if load.Upload {
		return c.mover.upload(ctx, c.job(load))
	}
	return c.mover.download(ctx, c.job(load))
}

// Clean removes what was uploaded.
func (c *Client) Clean(_ Nothing, _ *Nothing) error {
	return c.mover.clean(context.Background())
}

// runClient is the whole life of a client's process.
func runClient(v variant, address, collector string) error {
	// OpenTelemetry's SDK knows where to export to by the environment alone.
	if err := os.Setenv(collectorVariable, collector); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	return child.Serve(&Client{variant: v, address: address})
}
