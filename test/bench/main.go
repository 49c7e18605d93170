// The benchmarks: what instrumentation costs, and how fast big files are, measured in one run and
// in turns, so that what the machine does to one variant it does to all. `make bench` runs them;
// docs/benchmarks.md has how they measure, and results.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// suite is what is measured in the same way, by children of this program. Each has a file of its
// own, which registers it: the suite of a service can be deleted by path.
type suite interface {
	// parts are the names of what can be measured.
	parts() []string
	// child does the work of a child if the arguments are those of one, and says whether they were.
	child(arguments []string) (bool, error)
	// flags adds those of the suite, and check finds out whether they make sense.
	flags(flags *flag.FlagSet)
	check() error
	// run measures some of the parts.
	run(ctx context.Context, out io.Writer, parts []string) error
}

// suites are those that are registered, in the order of their files.
var suites []suite

// register is called to initialize a variable, so that a suite needs no line outside its own file.
func register(s suite) suite {
	suites = append(suites, s)
	return s
}

func main() {
	child, err := child(os.Args[1:])
	if !child {
		err = bench(os.Stdout, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // This is a main package.
	}
}

// child does the work of a child if the arguments are those of one, and says whether they were.
func child(arguments []string) (bool, error) {
	for _, s := range suites {
		if is, err := s.child(arguments); is {
			return true, err
		}
	}
	return false, nil
}

// bench fails only if it cannot measure. A goal that is not met is a result.
func bench(out io.Writer, arguments []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var all []string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	for _, s := range suites {
		all = append(all, s.parts()...)
		s.flags(flags)
	}
	run := flags.String("run", strings.Join(all, ","), "what to measure")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	for _, s := range suites {
		if err := s.check(); err != nil {
			return err
		}
	}
	chosen := strings.Split(*run, ",")
	for _, name := range chosen {
		if !slices.Contains(all, name) {
			return fmt.Errorf("there is no part %q, only %v", name, all)
		}
	}
	for _, s := range suites {
		parts := slices.DeleteFunc(slices.Clone(chosen), func(name string) bool {
			return !slices.Contains(s.parts(), name)
		})
		if len(parts) == 0 {
			continue
		}
		if err := s.run(ctx, out, parts); err != nil {
			return err
		}
	}
	return nil
}
