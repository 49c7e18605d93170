package object

import (
	"fmt"
	"io"
	"strconv"

	"example.com/quartet/test/bench/measure"
)

func printPreface(out io.Writer, o Options, b *bed) {
	fmt.Fprintf(out, "## Big files\n\n")
	measure.PrintCircumstances(out,
		"google.golang.org/grpc",
		"github.com/aws/aws-sdk-go-v2/service/s3",
		"go.opentelemetry.io/otel/sdk",
		"github.com/prometheus/client_golang")
	fmt.Fprintf(out, "- %d rounds of %s per contestant, interleaved, after one that does not count; medians; "+
		"ratios are medians of the rounds' ratios [least–greatest]\n", o.Rounds, size(o.Bytes))
	if b.isFast {
		fmt.Fprintf(out, "- “file” is in %s, where syncing costs nothing; “disk” is where temporary files are\n\n", fastRoot)
		return
	}
	fmt.Fprintf(out, "- no room in %s: “file” is on the disk too, and ours pays for its syncs\n\n", fastRoot)
}

func (t table) print(out io.Writer, r results) {
	fmt.Fprintf(out, "**%s**\n\n", t.title)
	cells, header := t.rateRow, []string{
		"variant", "MB/s", "CPU s/GiB client", "CPU s/GiB server", "rate ratio", "CPU ratio"}
	if t.memory {
		cells, header = memoryRow, []string{"variant", "MB/s", "MiB client", "MiB server"}
	}
	lines := measure.NewTable(header...)
	for _, c := range t.contestants {
		lines.Add(cells(r, c.name)...)
	}
	lines.Print(out)
}

func (t table) rateRow(r results, name string) []string {
	return []string{
		name,
		number(r.Median(name, rate)/1e6, 0),
		number(r.Median(name, clientCPU), 2),
		number(r.Median(name, serverCPU), 2),
		measure.SpreadOf(r.Ratios(name, t.base, rate)).String(),
		measure.SpreadOf(r.Ratios(name, t.base, cpu)).String(),
	}
}

func memoryRow(r results, name string) []string {
	return []string{
		name,
		number(r.Median(name, rate)/1e6, 0),
		number(r.Median(name, clientMemory), 1),
		number(r.Median(name, serverMemory), 1),
	}
}

func number(value float64, digits int) string { return strconv.FormatFloat(value, 'f', digits, 64) }

// printEnd writes the verdicts, and what proves that spans were made.
func printEnd(out io.Writer, verdicts []string, b *bed) {
	fmt.Fprint(out, "### Goals\n\n")
	for _, verdict := range verdicts {
		fmt.Fprintf(out, "- %s\n", verdict)
	}
	fmt.Fprintf(out, "\nThe collector took %d spans of our servers and clients.\n\n", b.collector.spans.Load())
}
