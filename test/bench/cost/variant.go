package cost

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// A variant is one way to instrument a server and its client.
type variant struct {
	name       string
	instrument func() (*instruments, error)
	only       []string // parts in which it makes a difference; none means all
}

func (v variant) isIn(p part) bool { return len(v.only) == 0 || slices.Contains(v.only, p.name) }

// The variants by name. Everything is compared with bare; control is bare again, and shows what the
// machine alone does to a ratio.
const (
	bareName        = "bare"
	controlName     = "bare again"
	oursMetricsName = "ours, metrics only"
	oursTenthName   = "ours, sampling 10 %"
	oursAllName     = "ours, sampling 100 %"
	usualTenthName  = "otelgrpc + grpcprom, 10 %"
	usualAllName    = "otelgrpc + grpcprom, 100 %"
	headerName      = "traceparent alone"
	gapsName        = "gap histogram alone"
)

var variants = []variant{
	{name: bareName, instrument: bare},
	{name: controlName, instrument: bare},
	{name: oursMetricsName, instrument: func() (*instruments, error) { return ours(nil) }},
	{name: oursTenthName, instrument: func() (*instruments, error) { return ours(sample(0.1)) }},
	{name: oursAllName, instrument: func() (*instruments, error) { return ours(sample(1)) }},
	{name: usualTenthName, instrument: func() (*instruments, error) { return usual(sample(0.1)) }},
	{name: usualAllName, instrument: func() (*instruments, error) { return usual(sample(1)) }},
	{name: headerName, instrument: headerAlone, only: []string{"unary"}},
	{name: gapsName, instrument: gapsAlone, only: []string{"stream", "oneway"}},
}

func variantNamed(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("there is no variant %q", name)
}

// instruments are what a variant adds to the options of a server and of a client, and where its
// numbers are.
type instruments struct {
	server   []grpc.ServerOption
	client   []grpc.DialOption
	registry *prometheus.Registry
	spans    *spans // nil if none are made
}

func bare() (*instruments, error) { return &instruments{registry: prometheus.NewRegistry()}, nil }

// Counts is what the instruments of one side saw.
type Counts struct{ Calls, Gaps, Spans int64 }

// The metrics that are counted, after the name of the side. grpcprom has the first one too.
const (
	callFamily = "_handled_total"
	gapFamily  = "_message_gap_seconds"
)

// counts proves that the instruments worked: what does not count is cheap.
func (i *instruments) counts(ctx context.Context) (c Counts, err error) {
	families, err := i.registry.Gather()
	if err != nil {
		return c, err
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			switch {
			case strings.HasSuffix(family.GetName(), callFamily):
				c.Calls += int64(m.GetCounter().GetValue())
			case strings.HasSuffix(family.GetName(), gapFamily):
				c.Gaps += int64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	if i.spans != nil {
		c.Spans, err = i.spans.count(ctx)
	}
	return c, err
}
