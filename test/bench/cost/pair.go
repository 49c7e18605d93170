package cost

import (
	"context"
	"errors"
	"fmt"

	"example.com/quartet/test/bench/child"
	"example.com/quartet/test/bench/measure"
)

// The roles of a child, the first of its arguments.
const (
	serverRole = "cost-server"
	clientRole = "cost-client"
)

// Child does the work of a child if the arguments are those of one, and says whether they were.
func Child(arguments []string) (bool, error) {
	if len(arguments) == 0 || arguments[0] != serverRole && arguments[0] != clientRole {
		return false, nil
	}
	arguments = append(arguments, "", "")
	v, err := variantNamed(arguments[1])
	if err != nil {
		return true, err
	}
	if arguments[0] == serverRole {
		return true, serve(v)
	}
	return true, call(v, arguments[2])
}

// pair is the two processes of a variant. They have nothing in common with those of another: no
// heap, no collector of garbage, no queue of spans.
type pair struct {
	variant
	server, client *child.Process
}

func start(ctx context.Context, v variant) (p *pair, err error) {
	p = &pair{variant: v}
	if p.server, err = child.Start(ctx, serverRole, v.name); err != nil {
		return nil, err
	}
	var address string
	if err = p.server.Ask("Address", 0, Nothing(0), &address); err == nil {
		p.client, err = child.Start(ctx, clientRole, v.name, address)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", v.name, err), p.stop())
	}
	return p, nil
}

// measure has the client make traffic for one slice, over a connection of its own.
func (p *pair) measure(load Load) (s Sample, err error) {
	var before, after measure.Usage
	err = p.client.Ask("Connect", 0, Nothing(0), new(Nothing))
	if err == nil {
		err = p.server.Ask("Used", 0, Nothing(0), &before)
	}
	if err == nil {
		err = p.client.Ask("Run", load.For, load, &s.Result)
	}
	if err == nil {
		err = p.server.Ask("Used", 0, Nothing(0), &after)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	s.Server = after.Since(before)
	return s, nil
}

// counts asks both sides what their instruments saw.
func (p *pair) counts() (server, client Counts, err error) {
	err = errors.Join(p.server.Ask("Counts", 0, Nothing(0), &server), p.client.Ask("Counts", 0, Nothing(0), &client))
	return server, client, err
}

func (p *pair) stop() error {
	var problems []error
	for _, process := range []*child.Process{p.client, p.server} {
		if process != nil {
			problems = append(problems, process.Stop())
		}
	}
	return errors.Join(problems...)
}

// startAll starts the pair of every variant. Some may run already if there is an error.
func startAll(ctx context.Context) (pairs []*pair, err error) {
	for _, v := range variants {
		p, err := start(ctx, v)
		if err != nil {
			return pairs, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

func stopAll(pairs []*pair) error {
	var problems []error
	for _, p := range pairs {
		problems = append(problems, p.stop())
	}
	return errors.Join(problems...)
}
