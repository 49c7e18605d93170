package soak

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/stats"

	"example.com/quartet/internal/telemetry"
)

// counts are what was done, for the proof that it was done at all.
type counts struct {
	steps                              atomic.Int64
	uploads, continued, pairs, replays atomic.Int64
	downloads, ranges, invalid         atomic.Int64
	deletions, lists, absences         atomic.Int64
	kills, drains, cuts, tolerated     atomic.Int64
	wires                              [refuse + 1]atomic.Int64
	faults                             [allFaults]atomic.Int64
	// transfers has the metrics of the clients.
	transfers *telemetry.Telemetry
}

func newCounts() *counts { return &counts{transfers: telemetry.Discard()} }

// table is every count by name. Those that only a store can have are left out without one.
func (c *counts) table(store bool) map[string]int64 {
	table := map[string]int64{}
	for name, count := range map[string]*atomic.Int64{
		"uploads": &c.uploads, "continued uploads": &c.continued, "pairs of writers": &c.pairs,
		"finishes replayed": &c.replays,
		"downloads":         &c.downloads, "ranges": &c.ranges, "invalid uploads": &c.invalid,
		"deletions": &c.deletions, "lists": &c.lists, "names without an object": &c.absences,
		"kills": &c.kills, "drains": &c.drains, "connections cut within": &c.cuts, "tolerated errors": &c.tolerated,
		"all connections cut": &c.wires[pass], "stalls": &c.wires[stall],
	} {
		table[name] = count.Load()
	}
	for kind := refused; store && kind < allFaults; kind++ {
		table[fmt.Sprintf("fault %d of the store", kind)] = c.faults[kind].Load()
	}
	for _, direction := range []string{"upload", "download"} {
		table["resumes of "+direction+"s"] = c.resumes(direction)
	}
	return table
}

func (c *counts) resumes(direction string) int64 {
	families, _ := c.transfers.Registry.Gather()
	for _, family := range families {
		if family.GetName() != "test_client_transfer_resumes_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if strings.Contains(metric.String(), `"`+direction+`"`) {
				return int64(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// missing are the names of what has not happened yet.
func (c *counts) missing(store bool) []string {
	var names []string
	for name, count := range c.table(store) {
		if count == 0 {
			names = append(names, name)
		}
	}
	return names
}

// prove fails if something was never exercised.
func (c *counts) prove(t *testing.T, store bool) {
	t.Helper()
	t.Logf("%d operations: %v", c.steps.Load(), c.table(store))
	if missing := c.missing(store); len(missing) > 0 {
		t.Errorf("this run had no %s", strings.Join(missing, ", no "))
	}
}

// attempts counts how many attempts gRPC makes of a call whose context has a counter.
type attempts struct{}

type attemptsKey struct{}

func withAttempts(ctx context.Context) (context.Context, *atomic.Int64) {
	count := new(atomic.Int64)
	return context.WithValue(ctx, attemptsKey{}, count), count
}

func (attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if count, ok := ctx.Value(attemptsKey{}).(*atomic.Int64); ok {
		count.Add(1)
	}
	return ctx
}

func (attempts) HandleRPC(context.Context, stats.RPCStats) {}

func (attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (attempts) HandleConn(context.Context, stats.ConnStats) {}
