package cost

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/child"
	"example.com/quartet/test/bench/measure"
)

// Client is the client of one variant, as its parent sees it.
type Client struct {
	address string
	conn    *grpc.ClientConn
	// workers of the last slice, whose memory the next one takes over.
	workers []*worker
	*instruments
}

// Connect makes a new connection in place of the one there is. grpc-go fits the windows of a
// connection to what it measures on it, and keeps them, which can be worth a fifth of the rate: the
// luck of one connection must not stick to a variant.
func (c *Client) Connect(_ Nothing, _ *Nothing) (err error) {
	if c.conn != nil {
		_ = c.conn.Close() // It fails only if it is closed already.
	}
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	options := append([]grpc.DialOption{plaintext}, c.client...)
	if c.conn, err = grpc.NewClient(c.address, options...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c.conn.Connect()
	for state := c.conn.GetState(); state != connectivity.Ready; state = c.conn.GetState() {
		if !c.conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("connection to %s is %s: %w", c.address, state, ctx.Err())
		}
	}
	return nil
}

// Result is what a client did in a slice, and what it used for it.
type Result struct {
	Done     int64
	Took     time.Duration
	P50, P99 time.Duration // zero if nothing was waited for
	Used     measure.Usage
}

// Run makes traffic for a slice of time.
func (c *Client) Run(load Load, answer *Result) error {
	p, err := partNamed(load.Part)
	if err != nil {
		return err
	}
	for len(c.workers) < load.Workers {
		c.workers = append(c.workers, new(worker))
	}
	before, err := measure.Used()
	if err != nil {
		return err
	}
	start := time.Now()
	workers, stub := c.workers[:load.Workers], grpc_testing.NewTestServiceClient(c.conn)
	var group errgroup.Group
	for _, w := range workers {
		*w = worker{Load: load, stub: stub, end: start.Add(load.For), latencies: w.latencies[:0]}
		group.Go(func() error { return p.run(context.Background(), w) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(start)
	after, err := measure.Used()
	*answer = resultOf(workers)
	answer.Took, answer.Used = took, after.Since(before)
	return err
}

func resultOf(workers []*worker) (r Result) {
	var latencies []time.Duration
	for _, w := range workers {
		r.Done += w.done
		latencies = append(latencies, w.latencies...)
	}
	slices.Sort(latencies)
	r.P50, r.P99 = measure.Quantile(latencies, 0.5), measure.Quantile(latencies, 0.99)
	return r
}

// Counts is what its instruments saw so far.
func (c *Client) Counts(_ Nothing, answer *Counts) (err error) {
	*answer, err = c.counts(context.Background())
	return err
}

// call is the whole life of a client's process.
func call(v variant, address string) error {
	i, err := v.instrument()
	if err != nil {
		return err
	}
	return child.Serve(&Client{address: address, instruments: i})
}
