// Command dashboards checks Grafana dashboards (.json) and Prometheus rules (.yaml) without Grafana
// and Prometheus: that Grafana's own types take the dashboards, that all queries are PromQL, and
// that the programs register every metric in them with these labels. It checks documents (.md)
// against the same list: that the metrics they name exist, and that every metric is described.
//
//	go -C tools run ./dashboards [-metrics FILE,...] [-selectors | -expressions] [FILE...]
//
// The list comes from /metrics of both programs, which it builds and starts, or from files with
// such answers. Without further files it takes those of the chart and of docs. It prints a line for
// each problem and exits with 1. With -selectors or -expressions it prints what the files ask, as
// "file<TAB>panel or rule<TAB>query", with values in place of variables, so that a live Prometheus
// can be asked the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What is checked unless files are named, seen from the folder tools. Services may have none of
// theirs.
var (
	needed = []string{
		"../charts/quartet/dashboards/*.json",
		"../charts/quartet/alerts/*.yaml",
		"../docs/telemetry.md",
		"../docs/runbook.md",
	}
	optional = []string{
		"../charts/quartet/services/*/dashboards/*.json", "../charts/quartet/services/*/alerts/*.yaml",
		"../docs/operations.md", "../docs/services/*.md",
	}
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("dashboards: ")
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run checks what args name, and prints to out what they ask for.
func run(ctx context.Context, args []string, out io.Writer) error {
	// The flags are in a set of their own, so that tests can call run several times.
	flags := flag.NewFlagSet("dashboards", flag.ContinueOnError)
	metrics := flags.String(
		"metrics",
		"",
		"`files` with /metrics of the programs, instead of starting them",
	)
	selectors := flags.Bool(
		"selectors",
		false,
		"print what selects series, except those that rules record",
	)
	expressions := flags.Bool("expressions", false, "print what panels draw and rules evaluate")
	// The variables of a dashboard have values that select everything, unless the caller has others.
	c := checker{
		values:     map[string]*string{},
		uids:       map[string]string{},
		documented: documented{metrics: map[string]bool{}, words: map[string]bool{}},
	}
	for _, name := range []string{"namespace", "job", "pod"} {
		c.values[name] = flags.String(name, ".+", "the regular `expression` in place of $"+name)
	}
	for _, name := range builtIn {
		c.values[name] = flags.String(name, "1m", "the `duration` in place of $"+name)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	files, err := filesOf(flags.Args())
	if err != nil {
		return err
	}
	isComma := func(r rune) bool { return r == ',' }
	if c.known, err = readNames(ctx, strings.FieldsFunc(*metrics, isComma)); err != nil {
		return err
	}
	c.check(files)
	switch {
	// Problems come first: queries that are wrong are of no use to a live Prometheus.
	case len(c.problems) > 0:
		print(out, c.problems)
		return fmt.Errorf("%d problems in %d files", len(c.problems), len(files))
	case *selectors:
		print(out, c.selectors)
	case *expressions:
		print(out, c.expressions)
	default:
		fmt.Fprintf(
			out,
			"dashboards: nothing wrong with %d queries in %d files\n",
			len(c.queries),
			len(files),
		)
	}
	return nil
}

// filesOf are those that were named, or else all of the chart and of docs.
func filesOf(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	for _, pattern := range slices.Concat(needed, optional) {
		found, err := filepath.Glob(pattern)
		// A pattern that finds nothing would pass a check of nothing.
		if err != nil || len(found) == 0 && slices.Contains(needed, pattern) {
			return nil, errors.Join(err, fmt.Errorf("no files like %s here", pattern))
		}
		args = append(args, found...)
	}
	return args, nil
}

// print leaves out what a panel asks twice.
func print(out io.Writer, lines []string) {
	for i, line := range lines {
		if !slices.Contains(lines[:i], line) {
			fmt.Fprintln(out, line)
		}
	}
}
