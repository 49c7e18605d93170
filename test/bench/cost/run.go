// Package cost measures what instrumentation costs: the same traffic through bare grpc-go, through
// ours, and through what services usually ship, in turns, in one run.
package cost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"example.com/quartet/test/bench/measure"
)

// Options is how long and what to measure.
type Options struct {
	Rounds int
	Slice  time.Duration
	Parts  []string // names
}

// Run measures, and writes tables and a verdict on every goal as Markdown.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	chosen, err := partsNamed(o.Parts)
	if err != nil {
		return err
	}
	pairs, err := startAll(ctx)
	defer func() { err = errors.Join(err, stopAll(pairs)) }()
	if err != nil {
		return err
	}
	printPreface(out, o)
	var verdicts []string
	for _, p := range chosen {
		others := func(pair *pair) bool { return !pair.isIn(p) }
		more, err := runPart(out, o, p, slices.DeleteFunc(slices.Clone(pairs), others))
		if err != nil {
			return err
		}
		verdicts = append(verdicts, more...)
	}
	return printEnd(out, verdicts, pairs)
}

// runPart puts every load of a part on every pair, and answers with the verdicts on its goals.
func runPart(out io.Writer, o Options, p part, pairs []*pair) (verdicts []string, err error) {
	fmt.Fprintf(out, "### %s\n\n", p.title)
	for _, load := range p.loads {
		load.Part, load.For = p.name, o.Slice
		r, err := interleaved(o.Rounds, load, pairs)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", p.name, load.Title, err)
		}
		printLoad(out, p, load, r)
		for _, g := range p.goals {
			verdicts = append(verdicts, fmt.Sprintf("%s, %s: %s", p.name, load.Title, g.Verdict(r)))
		}
	}
	return verdicts, nil
}

func interleaved(rounds int, load Load, pairs []*pair) (results, error) {
	samples, err := measure.Rounds(rounds, len(pairs), func(i int) (Sample, error) {
		return pairs[i].measure(load)
	})
	r := results{}
	for i, p := range pairs {
		r[p.name] = samples[i]
	}
	return r, err
}
