package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/quartet"
	_ "example.com/quartet/gen/quartet/v1" // It registers the services.
	"example.com/quartet/internal/cli"
)

// Names of the processes in their spans.
var (
	serverService = quartet.Identity.Component("server")
	clientService = quartet.Identity.Component("client")
)

// contract is the package of the services.
const contract = "quartet.v1"

// modes are those of gRPC, in the order of the report.
var modes = []string{"unary", "server streaming", "client streaming", "bidirectional"}

// methods are all of the contract, by service and in its order.
func methods() (all []protoreflect.MethodDescriptor) {
	add := func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				all = append(all, file.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	}
	protoregistry.GlobalFiles.RangeFilesByPackage(contract, add)
	slices.SortStableFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return cmp.Compare(a.Parent().FullName(), b.Parent().FullName())
	})
	return all
}

// report waits until there is something to report of every mode that the contract has, and prints
// it. Everything in it comes out of the spans that the two processes have exported.
func report(ctx context.Context, p *pair) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.awaitTraffic(ctx); err != nil {
		return err
	}
	step("traces", "waiting for the last spans")
	for {
		spans := p.collector.snapshot()
		if trees := trees(spans); len(trees) == wantedModes() {
			fmt.Println()
			replies, err := p.firstReplies(ctx)
			if err != nil {
				return err
			}
			printTable(os.Stdout, spans, replies)
			for _, tree := range trees {
				fmt.Println()
				tree.print(os.Stdout)
			}
			fmt.Println()
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for a trace of each mode that crosses both processes: %w", ctx.Err())
		}
	}
}

// row is what was measured of one RPC, at the client.
type row struct {
	method      protoreflect.MethodDescriptor
	bytes       int64
	messages    int64
	calls       []span
	failedCalls int
}

// rows sums up the client's spans, in the order of the contract.
func rows(spans []span) []*row {
	var all []*row
	for _, method := range methods() {
		r := &row{method: method}
		for _, s := range spans {
			if s.kind == tracepb.Span_SPAN_KIND_CLIENT && s.name == spanName(method) {
				r.add(s)
			}
		}
		if len(r.calls) > 0 {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b *row) int {
		return cmp.Compare(slices.Index(modes, a.mode()), slices.Index(modes, b.mode()))
	})
	return all
}

func spanName(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().FullName()) + "/" + string(method.Name())
}

// wantedModes is how many modes the contract has.
func wantedModes() int {
	found := map[string]bool{}
	for _, method := range methods() {
		found[cli.ModeName(method)] = true
	}
	return len(found)
}

func (r *row) add(s span) {
	r.bytes += s.numbers[key("bytes_sent")] + s.numbers[key("bytes_received")]
	r.messages += s.numbers[key("messages_sent")] + s.numbers[key("messages_received")]
	r.calls = append(r.calls, s)
	if s.failed {
		r.failedCalls++
	}
}

// key is the name of a span attribute of the product.
func key(name string) string { return quartet.Identity.Namespace() + "." + name }

func (r *row) mode() string { return cli.ModeName(r.method) }

// busy is the time in which at least one of the calls was under way.
func (r *row) busy() (busy time.Duration) {
	var until time.Time
	byStart := func(a, b span) int { return a.start.Compare(b.start) }
	for _, call := range slices.SortedFunc(slices.Values(r.calls), byStart) {
		end := call.start.Add(call.took)
		if call.start.After(until) {
			until = call.start
		}
		if end.After(until) {
			busy += end.Sub(until)
			until = end
		}
	}
	return busy
}

// rate is the throughput while there are calls: of calls, bytes or messages, whichever counts in
// the mode.
func (r *row) rate() string {
	seconds := r.busy().Seconds()
	switch r.mode() {
	case "unary":
		return fmt.Sprintf("%.0f calls/s", float64(len(r.calls))/seconds)
	case "bidirectional":
		return fmt.Sprintf("%.0f messages/s", float64(r.messages)/seconds)
	default:
		return cli.Size(int64(float64(r.bytes)/seconds)) + "/s"
	}
}

// quantile of the durations, by the nearest rank.
func (r *row) quantile(q float64) string {
	sorted := slices.SortedFunc(slices.Values(r.calls), func(a, b span) int {
		return cmp.Compare(a.took, b.took)
	})
	nearest := sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
	return nearest.took.Round(10 * time.Microsecond).String()
}

// printTable prints what the clients measured of each RPC. A bidirectional stream lasts as long as
// its client likes, so of those it has the time until the first reply.
func printTable(w io.Writer, spans []span, replies map[string]buckets) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "MODE\tRPC\tCALLS\tFAILED\tBYTES\tRATE\tP50\tP99\t")
	for _, r := range rows(spans) {
		p50, p99, of := r.quantile(0.5), r.quantile(0.99), "call"
		if r.mode() == "bidirectional" {
			first := replies[spanName(r.method)]
			p50, p99, of = first.quantile(0.5), first.quantile(0.99), "first reply"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\tof a %s\n",
			r.mode(), r.method.Name(), len(r.calls), r.failedCalls,
			cli.Size(r.bytes), r.rate(), p50, p99, of)
	}
	_ = table.Flush()
}

// tree is a trace, and the mode that it is shown for.
type tree struct {
	mode  string
	spans []span
}

// trees picks a trace for each mode: the one with the most bytes that both processes took part in.
func trees(spans []span) []tree {
	traces := map[string][]span{}
	for _, s := range spans {
		traces[s.trace] = append(traces[s.trace], s)
	}
	var picked []tree
	for _, mode := range modes {
		best := tree{}
		for _, r := range rows(spans) {
			if r.mode() != mode {
				continue
			}
			for _, candidate := range traces {
				if crosses(candidate, spanName(r.method)) &&
					(best.spans == nil || weight(candidate) > weight(best.spans)) {
					best = tree{fmt.Sprintf("%s: %s", mode, spanName(r.method)), candidate}
				}
			}
		}
		if best.spans != nil {
			picked = append(picked, best)
		}
	}
	return picked
}

// crosses tells whether a trace is complete, from its root to the call's span on either side.
func crosses(spans []span, name string) bool {
	has := func(service string) bool {
		return slices.ContainsFunc(spans, func(s span) bool {
			return s.service == service && s.name == name
		})
	}
	rooted := slices.ContainsFunc(spans, func(s span) bool { return s.parent == "" })
	return rooted && has(clientService) && has(serverService)
}

func weight(spans []span) (bytes int64) {
	for _, s := range spans {
		bytes += s.numbers[key("bytes_sent")] + s.numbers[key("bytes_received")]
	}
	return bytes
}

func (t tree) print(w io.Writer) {
	fmt.Fprintf(w, "%s   trace %s\n", t.mode, t.spans[0].trace)
	slices.SortFunc(t.spans, func(a, b span) int { return a.start.Compare(b.start) })
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, root := range t.children("") {
		t.printSpan(table, root, "  ", "  ")
	}
	_ = table.Flush()
}

func (t tree) children(parent string) (found []span) {
	for _, s := range t.spans {
		if s.parent == parent {
			found = append(found, s)
		}
	}
	return found
}

// printSpan prints a span and those below it. before is what stands before its name, and below
// before the glyphs of its children.
func (t tree) printSpan(table *tabwriter.Writer, s span, before, below string) {
	fmt.Fprintf(table, "%s%s\t%s\t%v\n", before, s.name, s.service, s.took.Round(10*time.Microsecond))
	children := t.children(s.id)
	for i, child := range children {
		if i < len(children)-1 {
			t.printSpan(table, child, below+"├─ ", below+"│  ")
		} else {
			t.printSpan(table, child, below+"└─ ", below+"   ")
		}
	}
}

// hints are what works while the pair runs.
func (p *pair) hints() []string {
	grpc := p.serverAddresses["grpc"]
	return []string{
		"open " + p.page() + " in a browser",
		"curl http://" + p.serverAddresses["http"] + "/metrics",
		"curl http://" + p.clientAddresses["http"] + "/metrics",
		"grpcurl -plaintext " + grpc + " list",
		fmt.Sprintf("grpcurl -plaintext %s describe %s", grpc, methods()[0].Parent().FullName()),
	}
}
