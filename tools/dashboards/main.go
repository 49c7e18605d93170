// Command dashboards checks Grafana dashboards (.json) and Prometheus rules (.yaml) without Grafana and Prometheus: that
// Grafana's own types take the dashboards, that all queries are PromQL, and that every metric and label in them is in
// docs/telemetry.md.
//
//	go -C tools run ./dashboards [-selectors | -expressions] [FILE...]
//
// Without files it takes those of the chart. It prints a line for each problem and exits with 1. With -selectors or
// -expressions it prints what the files ask, as "file<TAB>panel or rule<TAB>query", with values in place of variables, so
// that a live Prometheus can be asked the same.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
)

// What is checked if nobody says otherwise, seen from the folder tools.
const (
	metricsFile = "../docs/telemetry.md"
	dashboards  = "../charts/quartet/dashboards/*.json"
	alerts      = "../charts/quartet/alerts/*.yaml"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("dashboards: ")
	if err := run(os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("dashboards", flag.ContinueOnError)
	metrics := flags.String("metrics", metricsFile, "the `file` whose tables name all metrics")
	selectors := flags.Bool("selectors", false, "print what selects series, except those that rules record")
	expressions := flags.Bool("expressions", false, "print what panels draw and rules evaluate")
	c := checker{values: map[string]*string{}, uids: map[string]string{}}
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
	if c.known, err = readNames(*metrics); err != nil {
		return err
	}
	c.check(files)
	switch {
	case len(c.problems) > 0:
		print(out, c.problems)
		return fmt.Errorf("%d problems in %d files", len(c.problems), len(files))
	case *selectors:
		print(out, c.selectors)
	case *expressions:
		print(out, c.expressions)
	default:
		fmt.Fprintf(out, "dashboards: nothing wrong with %d queries in %d files\n", len(c.queries), len(files))
	}
	return nil
}

// filesOf are those that were named, or else all of the chart.
func filesOf(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	for _, pattern := range []string{dashboards, alerts} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
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
