// Attack does to a server what a careless or hostile caller can do, and shows what a quiet
// neighbour notices of it. `make attack` runs it; docs/security.md has the limits that hold such
// callers back, and results.
//
// An attack is a row: a server of its own is started as the chart starts it, a neighbour with an
// address of its own calls it for a while, and then does so again while the attack lasts. The
// attacker is another process, with less right to the processors, so that what the neighbour waits
// for is the server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := attack(os.Stdout, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1) //nolint:forbidigo // This is a main package.
	}
}

// attack runs rows and prints a table. It fails if a goal is missed.
func attack(out io.Writer, arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(arguments) == 2 && arguments[0] == childName {
		return child(ctx, out, arguments[1])
	}
	var o options
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(
			flags.Output(),
			"Attacks a server, row by row, beside a quiet neighbour, and prints a table. Exit status 1 says that a goal is missed.\n\n",
		)
		flags.PrintDefaults()
	}
	o.define(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	chosen, err := o.rows()
	if err != nil {
		return err
	}
	if o.list {
		for _, r := range chosen {
			fmt.Fprintf(out, "%-22s %9s  %s\n", r.name, r.load, r.does)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.most)
	defer cancel()
	return o.run(ctx, out, chosen)
}

// options are what can be chosen.
type options struct {
	names    string
	list     bool
	worst    bool
	load     load
	duration time.Duration
	most     time.Duration
	profiles string
	memory   int64 // MiB
	server   string
	folder   string
	attacked target
	remote   string
}

func (o *options) define(flags *flag.FlagSet) {
	flags.StringVar(&o.names, "run", "", "names of rows, separated by commas; empty for all")
	flags.BoolVar(&o.list, "list", false, "list the rows, and attack nothing")
	flags.BoolVar(&o.worst, "worst", false, "only the rows that are tried in a cluster too")
	flags.IntVar(
		&o.load.connections,
		"connections",
		0,
		"connections of the attacker; 0 for what each row has",
	)
	flags.IntVar(
		&o.load.streams,
		"streams",
		0,
		"calls at once on each of its connections; 0 for what each row has",
	)
	flags.DurationVar(
		&o.duration,
		"duration",
		8*time.Second,
		"how long an attack lasts, and the quiet time before it",
	)
	flags.DurationVar(
		&o.most,
		"most",
		15*time.Minute,
		"how long all of it may take; a row takes twice the duration and some seconds, and is run once more if it misses only the time of lookups",
	)
	flags.Int64Var(
		&o.memory,
		"memory",
		256,
		"memory limit of the server in MiB, as the chart hands it on",
	)
	flags.StringVar(&o.server, "server", "bin/server", "the program to attack")
	flags.StringVar(&o.folder, "folder", os.TempDir(), "where the servers' data is while they run")
	flags.StringVar(
		&o.profiles,
		"profiles",
		"",
		"a folder for CPU profiles of the server, <row>-quiet.pprof and <row>-attacked.pprof",
	)
	flags.StringVar(
		&o.attacked.GRPC,
		"attacker",
		"",
		"attack a server that runs already: its gRPC address for the attacker; only what the neighbour notices is measured",
	)
	flags.StringVar(
		&o.remote,
		"neighbour",
		"",
		"its gRPC address for the neighbour, which should make another caller of it",
	)
	flags.StringVar(&o.attacked.Probe, "probe", "", "its address for probes")
}

// rows are those that are chosen, in their order.
func (o *options) rows() ([]row, error) {
	all := slices.DeleteFunc(allRows(), func(r row) bool { return o.worst && !(r.worst && r.holds) })
	if o.names == "" {
		return all, nil
	}
	var chosen []row
	for name := range strings.SplitSeq(o.names, ",") {
		at := slices.IndexFunc(all, func(r row) bool { return r.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no row %q; -list shows them", name)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// childName is the first argument of a child, which is the attacker.
const childName = "attacker"

// assignment is what a child is told.
type assignment struct {
	Row                  string
	Target               target
	Connections, Streams int
	Duration             time.Duration
}

// child attacks, and prints what the server answered.
func child(ctx context.Context, out io.Writer, argument string) error {
	var a assignment
	if err := json.Unmarshal([]byte(argument), &a); err != nil {
		return err
	}
	rows := allRows()
	at := slices.IndexFunc(rows, func(r row) bool { return r.name == a.Row })
	if at < 0 {
		return fmt.Errorf("there is no row %q", a.Row)
	}
	// Not a timeout, which the server would be told.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	time.AfterFunc(a.Duration, cancel)
	by := newAttacker(a.Target, load{a.Connections, a.Streams})
	defer by.close()
	rows[at].run(ctx, by)
	return json.NewEncoder(out).Encode(by.answers.all())
}
