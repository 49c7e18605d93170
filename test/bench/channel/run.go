// Package channel measures messages in channels: how long they take from a participant at
// one server to another participant at a second one, beside what JetStream takes for itself, and
// what participants cost that are silent.
package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"example.com/quartet/test/bench/child"
	"example.com/quartet/test/bench/measure"
	"example.com/quartet/test/process"
)

// Options is how much and what to measure.
type Options struct {
	Rounds, Messages     int
	Participants, Silent int
	Parts                []string
}

// part is something that can be measured. It writes tables, and returns a verdict on each goal.
type part struct {
	name, title string
	measure     func(ctx context.Context, out io.Writer, o Options, b *bed) ([]string, error)
}

var parts = []part{
	{"messages", "From a participant to another, on two replicas", measureMessages},
	{"large-channel", "To all participants of a channel", measureLarge},
	{"silent", "Silent participants, each in a channel of its own", measureSilent},
}

// Parts are the names of what can be measured.
func Parts() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

const (
	rawName  = "a publication by nats.go to a consumer"
	bareName = "nothing but grpc-go and nats.go, on two replicas"
	oursName = "ours, on two replicas"
)

// Run measures, and writes tables and a verdict on every goal as Markdown.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	b, err := makeBed(ctx)
	defer func() { err = errors.Join(err, b.stop()) }()
	if err != nil {
		return err
	}
	fmt.Fprint(out, "## Channels\n\n")
	measure.PrintCircumstances(out, "google.golang.org/grpc", "github.com/nats-io/nats-server/v2",
		"github.com/nats-io/nats.go")
	fmt.Fprintf(out, "- %d rounds of %d messages or calls, one at a time, per contestant, interleaved, "+
		"after one that does not count; medians; ratios are medians of the rounds' ratios "+
		"[least–greatest]\n\n", o.Rounds, o.Messages)
	var verdicts []string
	for _, p := range parts {
		if !slices.Contains(o.Parts, p.name) {
			continue
		}
		fmt.Fprintf(out, "### %s\n\n", p.title)
		more, err := p.measure(ctx, out, o, b)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		verdicts = append(verdicts, more...)
	}
	fmt.Fprint(out, "### Goals\n\n")
	for _, verdict := range verdicts {
		fmt.Fprintf(out, "- %s\n", verdict)
	}
	fmt.Fprintln(out)
	return nil
}

// measureMessages compares a message from one replica to another with one of JetStream alone. A
// unary call stands beside them, because ours has as much of gRPC in it: a way in, and a way out.
func measureMessages(ctx context.Context, out io.Writer, o Options, b *bed) ([]string, error) {
	raw, conns, err := newRaw(ctx, b.url)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	bare, leaveBare, err := b.bareConversation(ctx, bareName, 1)
	defer leaveBare()
	if err != nil {
		return nil, err
	}
	ours, leave, err := b.conversation(ctx, oursName, 1)
	defer leave()
	if err != nil {
		return nil, err
	}
	conn, err := connect(b.addresses[0])
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	contestants := []contestant{raw, bare, ours, newCall("a unary call to a replica, and its answer", conn)}
	r, err := rounds(ctx, o, contestants)
	if err != nil {
		return nil, err
	}
	printTimes(out, "a message", r, contestants, rawName)
	return verdicts(r, "messages", oursName, rawName, 2), nil
}

// measureLarge compares a message to all participants of a channel with one to a single one.
func measureLarge(ctx context.Context, out io.Writer, o Options, b *bed) ([]string, error) {
	one, leaveOne, err := b.conversation(ctx, "to one participant", 1)
	defer leaveOne()
	if err != nil {
		return nil, err
	}
	all, leaveAll, err := b.conversation(ctx, fmt.Sprintf("to %d participants", o.Participants),
		o.Participants)
	defer leaveAll()
	if err != nil {
		return nil, err
	}
	bareOne, leaveBareOne, err := b.bareConversation(ctx, "bare, to one participant", 1)
	defer leaveBareOne()
	if err != nil {
		return nil, err
	}
	bareAll, leaveBareAll, err := b.bareConversation(ctx,
		fmt.Sprintf("bare, to %d participants", o.Participants), o.Participants)
	defer leaveBareAll()
	if err != nil {
		return nil, err
	}
	contestants := []contestant{one, all, bareOne, bareAll}
	r, err := rounds(ctx, o, contestants)
	if err != nil {
		return nil, err
	}
	printTimes(out, "a message, at the last of them", r, contestants, one.name)
	return verdicts(r, "large-channel", all.name, one.name, 3), nil
}

func rounds(ctx context.Context, o Options, contestants []contestant) (results, error) {
	samples, err := measure.Rounds(o.Rounds, len(contestants), func(i int) (Sample, error) {
		return contestants[i].slice(ctx, o.Messages)
	})
	r := results{}
	for i, c := range contestants {
		r[c.name] = samples[i]
	}
	return r, err
}

func printTimes(out io.Writer, of string, r results, contestants []contestant, base string) {
	table := measure.NewTable(of, "p50, µs", "p99, µs", "p50 ratio", "p99 ratio")
	for _, c := range contestants {
		table.Add(c.name,
			fmt.Sprintf("%.0f", r.Median(c.name, p50)*1e6),
			fmt.Sprintf("%.0f", r.Median(c.name, p99)*1e6),
			measure.SpreadOf(r.Ratios(c.name, base, p50)).String(),
			measure.SpreadOf(r.Ratios(c.name, base, p99)).String())
	}
	table.Print(out)
}

func verdicts(r results, part, of, to string, limit float64) (all []string) {
	for _, m := range []metric{p50, p99} {
		all = append(all, part+": "+measure.AtMost(of, to, m, limit).Verdict(r))
	}
	return all
}

// bed is what all parts lie on: the server's program, and two replicas at a NATS server.
type bed struct {
	root      string
	program   string
	broker    *child.Process
	url       string
	replicas  []*process.Process
	addresses [2]string
}

// makeBed builds our server and starts what is shared. What is there when it fails has to be
// stopped too.
func makeBed(ctx context.Context) (b *bed, err error) {
	b = &bed{}
	if b.root, err = os.MkdirTemp("", "quartet-bench-"); err != nil {
		return b, err
	}
	if b.program, err = buildServer(ctx, b.root); err != nil {
		return b, err
	}
	if b.broker, b.url, err = startBroker(ctx, b.folder("nats")); err != nil {
		return b, err
	}
	for i := range b.addresses {
		p, address, err := startServer(ctx, b.program, b.folder(fmt.Sprint("replica", i)),
			process.Setting("CHANNEL_URL", b.url))
		if err != nil {
			return b, err
		}
		b.replicas, b.addresses[i] = append(b.replicas, p), address
	}
	return b, nil
}

// folder is a new one below the bed's.
func (b *bed) folder(name string) string {
	folder := filepath.Join(b.root, name)
	_ = os.MkdirAll(folder, 0o700) // What needs it fails without.
	return folder
}

func (b *bed) stop() error {
	for _, p := range b.replicas {
		p.Kill() // What it has goes with its folder.
	}
	var err error
	if b.broker != nil {
		err = b.broker.Stop()
	}
	return errors.Join(err, os.RemoveAll(b.root))
}

// conversation is between a sender at one replica and receivers at both, the first at the other
// one.
func (b *bed) conversation(ctx context.Context, name string, receivers int) (
	c contestant, leave func(), err error,
) {
	return gather(name, receivers, func(i int) (member, error) {
		return join(ctx, b.addresses[i%len(b.addresses)], name, fmt.Sprint("participant ", i))
	})
}

// bareConversation is the same with two bare servers, which it starts.
func (b *bed) bareConversation(ctx context.Context, name string, receivers int) (
	c contestant, leave func(), err error,
) {
	var servers []*child.Process
	var addresses []string
	stop := func() {
		for _, s := range servers {
			_ = s.Stop() // It has nothing to lose.
		}
	}
	for range len(b.addresses) {
		server, err := child.Start(ctx, bareArgument, b.url)
		if err != nil {
			return c, stop, err
		}
		servers = append(servers, server)
		var address string
		if err := server.Ask("Address", timeout, Nothing{}, &address); err != nil {
			return c, stop, err
		}
		addresses = append(addresses, address)
	}
	c, part, err := gather(name, receivers, func(i int) (member, error) {
		p, err := joinBare(ctx, addresses[i%len(addresses)], fmt.Sprint(receivers))
		if err != nil {
			return member{}, err
		}
		return p.member(), nil
	})
	return c, func() { part(); stop() }, err
}

// gather has a sender and receivers join. Those that have joined have to leave also after an error.
func gather(name string, receivers int, join func(i int) (member, error)) (
	c contestant, leave func(), err error,
) {
	var all []member
	leave = func() {
		for _, m := range all {
			m.leave()
		}
	}
	for i := range receivers + 1 {
		m, err := join(i)
		if err != nil {
			return c, leave, err
		}
		all = append(all, m)
	}
	return newMessage(name, all), leave, nil
}
