package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/quartet/test/bench/child"
	"example.com/quartet/test/bench/measure"
	"example.com/quartet/test/process"
)

// The roles of a child, the first of its arguments.
const (
	serverRole = "files-server"
	clientRole = "files-client"
)

// Child does the work of a child if the arguments are those of one, and says whether they were.
func Child(arguments []string) (bool, error) {
	if len(arguments) == 0 || arguments[0] != serverRole && arguments[0] != clientRole {
		return false, nil
	}
	arguments = append(arguments, "", "", "")
	v, err := variantNamed(arguments[1])
	if err != nil {
		return true, err
	}
	if arguments[0] == serverRole {
		return true, serve(v, arguments[2])
	}
	return true, runClient(v, arguments[2], arguments[3])
}

// pair is the two processes of a variant.
type pair struct {
	variant
	client *child.Process
	// Of these two one is there, or none for a client of the gateway, which is shared.
	anchor  *child.Process
	program *process.Process

	serverPID int
}

func (b *bed) start(ctx context.Context, v variant) (p *pair, err error) {
	p = &pair{variant: v}
	address, err := p.startServer(ctx, b)
	if err == nil {
		p.client, err = child.Start(ctx, clientRole, v.name, address, b.collector.url)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", v.name, err), p.stop())
	}
	return p, nil
}

func (p *pair) startServer(ctx context.Context, b *bed) (address string, err error) {
	folder, err := b.folder(p.variant)
	switch {
	case err != nil:
		return "", err
	case p.kind == kindS3:
		p.serverPID = b.gateway.Process.Pid
		return b.gatewayAddress, nil
	case p.kind == kindOurs, p.kind == kindWeb, p.kind == kindWeb2:
		var web string
		p.program, address, web, err = startProgram(
			ctx, b.program, folder, b.objects(p.variant, folder), b.collector.url,
		)
		if p.kind != kindOurs {
			address += bothPorts + web
		}
		if err == nil {
			p.serverPID = p.program.PID()
		}
		return address, err
	}
	if p.anchor, err = child.Start(ctx, serverRole, p.name, folder); err != nil {
		return "", err
	}
	p.serverPID = p.anchor.PID()
	return address, p.anchor.Ask("Address", 0, Nothing(0), &address)
}

// measure has the client make one load, over connections of its own.
func (p *pair) measure(load Load) (s Sample, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", p.name, err)
		}
	}()
	if err := p.client.Ask("Connect", timeout, load, new(Nothing)); err != nil {
		return s, err
	}
	s.Bytes = load.Bytes * int64(load.Transfers)
	meters := []meter{{pid: p.client.PID()}, {pid: p.serverPID}}
	for i := range meters {
		if err := meters[i].begin(); err != nil {
			return s, err
		}
	}
	if err := p.client.Ask("Run", timeout, load, &s.Took); err != nil {
		return s, err
	}
	for i, side := range []*Side{&s.Client, &s.Server} {
		if *side, err = meters[i].end(); err != nil {
			return s, err
		}
	}
	return s, p.clean()
}

func (p *pair) clean() error {
	err := p.client.Ask("Clean", timeout, Nothing(0), new(Nothing))
	if p.anchor != nil {
		err = errors.Join(err, p.anchor.Ask("Clean", timeout, Nothing(0), new(Nothing)))
	}
	return err
}

// stopTime is more than our server takes to end.
const stopTime = 30 * time.Second

func (p *pair) stop() error {
	var problems []error
	for _, process := range []*child.Process{p.client, p.anchor} {
		if process != nil {
			problems = append(problems, process.Stop())
		}
	}
	if p.program != nil {
		problems = append(problems, p.program.Stop(stopTime))
	}
	return errors.Join(problems...)
}

// meter reads what a process uses, from outside.
type meter struct {
	pid    int
	cpu    time.Duration
	memory int64
}

func (m *meter) begin() (err error) {
	if err := measure.ResetPeak(m.pid); err != nil {
		return err
	}
	if m.memory, err = measure.PeakOf(m.pid); err != nil { // What it has now is its peak.
		return err
	}
	m.cpu, err = measure.CPUOf(m.pid)
	return err
}

// Side is what one process used for a load.
type Side struct {
	CPU   time.Duration
	Grown int64 // bytes of memory, at its peak, above what it had before
}

func (m *meter) end() (Side, error) {
	cpu, err := measure.CPUOf(m.pid)
	if err != nil {
		return Side{}, err
	}
	peak, err := measure.PeakOf(m.pid)
	return Side{cpu - m.cpu, peak - m.memory}, err
}
