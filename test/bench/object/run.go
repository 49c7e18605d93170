// Package object measures big files: how fast they come and go, and at which cost, through our
// server and client, and through what one would take otherwise, in turns, in one run.
package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"example.com/quartet/test/bench/measure"
)

// Options is how much and what to measure.
type Options struct {
	Rounds int
	Bytes  int64 // of a slice
	Parts  []string
}

// Parts are the names of what can be measured.
func Parts() (names []string) {
	for _, p := range parts(gibi) {
		names = append(names, p.name)
	}
	return names
}

// Run measures, and writes tables and a verdict on every goal as Markdown.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	b, err := makeBed(ctx, o)
	defer func() { err = errors.Join(err, b.stop()) }()
	if err != nil {
		return err
	}
	printPreface(out, o, b)
	var verdicts []string
	for _, p := range parts(o.Bytes) {
		if !slices.Contains(o.Parts, p.name) {
			continue
		}
		fmt.Fprintf(out, "### %s\n\n", p.title)
		if p.name == s3Part && b.gateway == nil {
			fmt.Fprint(out, "Not measured: no versitygw on the PATH.\n\n")
			continue
		}
		if p.name == s3Part {
			if err := printRequests(ctx, out); err != nil {
				return fmt.Errorf("requests to S3: %w", err)
			}
		}
		if p.name == smallPart {
			more, err := printSmall(ctx, out, b)
			if err != nil {
				return fmt.Errorf("small objects: %w", err)
			}
			verdicts = append(verdicts, more...)
		}
		more, err := runPart(ctx, out, o, b, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		verdicts = append(verdicts, more...)
	}
	printEnd(out, verdicts, b)
	return nil
}

func runPart(
	ctx context.Context, out io.Writer, o Options, b *bed, p part,
) (verdicts []string, err error) {
	running := &pairs{bed: b, started: map[string]*pair{}}
	defer func() { err = errors.Join(err, running.stop()) }()
	for _, t := range p.tables {
		r, err := running.run(ctx, o, t)
		if err != nil {
			return nil, err
		}
		t.print(out, r)
		for _, g := range t.goals {
			verdicts = append(verdicts, fmt.Sprintf("%s, %s: %s", p.name, t.title, g.Verdict(r)))
		}
	}
	return verdicts, nil
}

// pairs are those that run. A part's tables share them.
type pairs struct {
	*bed
	started map[string]*pair
}

func (p *pairs) run(ctx context.Context, o Options, t table) (results, error) {
	if t.memory { // The new processes need the places of the old ones.
		if err := p.stop(); err != nil {
			return nil, err
		}
	}
	samples, err := measure.Rounds(t.rounds(o), len(t.contestants), func(i int) (Sample, error) {
		c := t.contestants[i]
		if t.memory {
			return p.once(ctx, c)
		}
		pair, err := p.get(ctx, c.variant)
		if err != nil {
			return Sample{}, err
		}
		return pair.measure(c.Load)
	})
	r := results{}
	for i, c := range t.contestants {
		r[c.name] = samples[i]
	}
	return r, err
}

// memoryRounds are enough for memory, which depends little on what else the machine does.
const memoryRounds = 3

func (t table) rounds(o Options) int {
	if t.memory {
		return min(o.Rounds, memoryRounds)
	}
	return o.Rounds
}

func (p *pairs) get(ctx context.Context, name string) (*pair, error) {
	if there, ok := p.started[name]; ok {
		return there, nil
	}
	v, err := variantNamed(name)
	if err != nil {
		return nil, err
	}
	pair, err := p.start(ctx, v)
	if err == nil {
		p.started[name] = pair
	}
	return pair, err
}

// once measures with processes that have done nothing before.
func (p *pairs) once(ctx context.Context, c contestant) (s Sample, err error) {
	v, err := variantNamed(c.variant)
	if err != nil {
		return s, err
	}
	pair, err := p.start(ctx, v)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, pair.stop()) }()
	return pair.measure(c.Load)
}

// stop ends the pairs; the bed has an end of its own.
func (p *pairs) stop() error {
	var problems []error
	for _, pair := range p.started {
		problems = append(problems, pair.stop())
	}
	clear(p.started)
	return errors.Join(problems...)
}
