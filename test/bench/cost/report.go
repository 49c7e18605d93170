package cost

import (
	"fmt"
	"io"
	"strconv"

	"example.com/quartet/test/bench/measure"
)

func printPreface(out io.Writer, o Options) {
	fmt.Fprintf(out, "## What instrumentation costs\n\n")
	measure.PrintCircumstances(out,
		"google.golang.org/grpc",
		"go.opentelemetry.io/otel/sdk",
		"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
		"github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus",
		"github.com/prometheus/client_golang")
	fmt.Fprintf(out, "- %d rounds of %s per variant, interleaved, after one that does not count; medians; "+
		"ratios to bare are medians of the rounds' ratios [least–greatest]\n\n", o.Rounds, o.Slice)
}

// printLoad writes the table of one load.
func printLoad(out io.Writer, p part, load Load, r results) {
	fmt.Fprintf(out, "**%s**\n\n", load.Title)
	waits := r[bareName][0].P50 > 0
	table := measure.NewTable(header(p, waits)...)
	for _, v := range variants {
		if v.isIn(p) {
			table.Add(row(r, v.name, load, waits)...)
		}
	}
	table.Print(out)
}

func header(p part, waits bool) []string {
	names := []string{"variant", p.unit + "/s",
		"allocs client", "allocs server", "CPU µs client", "CPU µs server", "rate ratio", "CPU ratio"}
	if p.name == transfer.name {
		names[1] = "MB/s"
	}
	if waits {
		names = append(names, "p50 µs", "p99 µs", "p50 ratio", "p99 ratio")
	}
	return names
}

func row(r results, variant string, load Load, waits bool) []string {
	perSecond := r.Median(variant, rate)
	if load.Chunk > 0 {
		perSecond *= float64(load.Chunk) / 1e6
	}
	ratio := func(m metric) string { return measure.SpreadOf(r.Ratios(variant, bareName, m)).String() }
	cells := []string{
		variant,
		number(perSecond, 0),
		number(r.Median(variant, clientAllocs), 2),
		number(r.Median(variant, serverAllocs), 2),
		number(r.Median(variant, clientCPU), 2),
		number(r.Median(variant, serverCPU), 2),
		ratio(rate),
		ratio(cpu),
	}
	if waits {
		cells = append(cells,
			number(r.Median(variant, p50), 0), number(r.Median(variant, p99), 0), ratio(p50), ratio(p99))
	}
	return cells
}

func number(value float64, digits int) string { return strconv.FormatFloat(value, 'f', digits, 64) }

// printEnd writes the verdicts, and what proves that the instruments were on.
func printEnd(out io.Writer, verdicts []string, pairs []*pair) error {
	fmt.Fprint(out, "### Goals\n\n")
	for _, verdict := range verdicts {
		fmt.Fprintf(out, "- %s\n", verdict)
	}
	fmt.Fprint(out, "\n### What the instruments saw, over all of this\n\n")
	table := measure.NewTable("variant",
		"calls, server", "calls, client", "gaps, server", "gaps, client", "spans, server", "spans, client")
	for _, p := range pairs {
		server, client, err := p.counts()
		if err != nil {
			return err
		}
		cells := []string{p.name}
		for _, count := range []int64{
			server.Calls, client.Calls, server.Gaps, client.Gaps, server.Spans, client.Spans,
		} {
			cells = append(cells, strconv.FormatInt(count, 10))
		}
		table.Add(cells...)
	}
	table.Print(out)
	return nil
}
