// Command dev is the loop of `make dev`. It runs `make up`, forwards ports and prints the pods'
// logs, and after each edit of the tree runs those targets of the Makefile that the edit concerns.
// What runs on the cluster stays there when it ends.
//
//	dev -context kind-quartet -namespace quartet -selector app.kubernetes.io/instance=quartet \
//	    -rollout deployment/quartet-server service/quartet-server:50051 …
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A rule says which targets of the Makefile an edit concerns.
type rule struct {
	prefix  string // of the path, which is that of a folder if it ends with a slash
	targets []string
}

var (
	// start is what runs first, until that went well, and after the watcher has lost events.
	start = "up"
	// The first rule that fits holds. Every target does only what is new: the compiler has a cache, an
	// image with the same programs is the same image, and the nodes get only images that they lack.
	rules = []rule{
		{"proto/", []string{"generate"}}, // which edits gen/
		// This rule has to be above that of all charts, of which this is one.
		{"charts/platform/", []string{"platform"}},
		// The chart needs no new image.
		{"charts/", []string{"release"}},
		{"server/", build},
		{"client/", build},
		{"internal/", build},
		{"gen/", build},
		{"identity.go", build},
		{"variables.go", build},
		{"go.mod", build},
		{"go.sum", build},
		{"Dockerfile", build},
	}
	build = []string{"image", "load", "release"}
	// order is the one in which targets depend on each other.
	order = []string{"generate", start, "image", "load", "platform", "release"}
)

// targets returns the targets for a set of edited files, in order and each once.
func targets(files []string) []string {
	var all []string
	for _, file := range files {
		applies := func(r rule) bool { return strings.HasPrefix(file, r.prefix) }
		if i := slices.IndexFunc(rules, applies); i >= 0 {
			all = append(all, rules[i].targets...)
		}
	}
	return inOrder(all)
}

// inOrder returns targets in order, each once. The start does what comes after it in the order.
func inOrder(some []string) (all []string) {
	for _, target := range order {
		// The start is last in a round: it builds and deploys everything.
		if slices.Contains(some, target) && !slices.Contains(all, start) {
			all = append(all, target)
		}
	}
	return all
}

func main() {
	ctx, stop := signal.NotifyContext(
		context.Background(),
		syscall.SIGINT,
		syscall.SIGTERM,
		syscall.SIGHUP,
	)
	err := run(ctx)
	stop()
	if err != nil {
		// Ctrl-C is no error: run returns nil when its context ends.
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

// run reads the flags, watches the tree, and starts the loop.
func run(ctx context.Context) error {
	makeCommand := flag.String(
		"make",
		"make",
		"the command that is given the targets, which runs in this folder",
	)
	k := kubectl{}
	flag.StringVar(&k.context, "context", "", "the context of the cluster")
	flag.StringVar(&k.namespace, "namespace", "", "the namespace of the release")
	selector := flag.String(
		"selector",
		"",
		"the labels of the pods whose logs are printed; empty for none",
	)
	var rollouts []string
	flag.Func(
		"rollout",
		"a Deployment to wait for after each round, as `deployment/name`; may be repeated",
		func(s string) error {
			rollouts = append(rollouts, s)
			return nil
		},
	)
	flag.Parse()

	// Watching begins before the first round, so that an edit during it is not lost.
	edits, err := watch(ctx, ".")
	if err != nil {
		return err
	}
	// Logs and forwards end with ctx, and are waited for, so that no kubectl is left behind.
	var background sync.WaitGroup
	defer background.Wait()
	stopForwards := func() {}
	// The parts of the loop are functions, so that tests can have others than make and kubectl.
	l := loop{
		edits: edits,
		make: func(ctx context.Context, targets []string) error {
			// The command may have words of its own, such as make -s.
			words := append(strings.Fields(*makeCommand), targets...)
			return command(ctx, words[0], words[1:]...)
		},
		// The logs follow all later pods by themselves.
		deployed: sync.OnceFunc(func() {
			if *selector != "" {
				background.Go(func() { k.logs(ctx, *selector) })
			}
		}),
		rollout: func(ctx context.Context) error { return k.wait(ctx, rollouts) },
		rolledOut: func() {
			stopForwards() // They may lead to pods that have gone.
			var forwarding context.Context
			forwarding, stopForwards = context.WithCancel(ctx)
			for _, spec := range flag.Args() {
				background.Go(func() { k.forward(forwarding, spec) })
			}
		},
	}
	return l.run(ctx)
}

// loop answers edits with targets of the Makefile.
type loop struct {
	// edits come from watch; it is closed when watching has ended.
	edits <-chan edit
	// make runs targets, and returns when they are done.
	make      func(ctx context.Context, targets []string) error
	deployed  func()                      // is called after each round that went well
	rollout   func(context.Context) error // waits for the pods
	rolledOut func()                      // is called after each rollout that went well
}

// run ends with its context, or if there can be no more edits. What fails is tried again with the
// next edit.
func (l *loop) run(ctx context.Context) error {
	// due are the targets of the next round. They stay due when a round fails.
	due, began := []string{start}, time.Now()
	for {
		made := false
		if len(due) > 0 {
			say("make %s", strings.Join(due, " "))
			err := l.make(ctx, due)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				say("make: %v; it is tried again after the next edit", err)
			default:
				made = true
				due = nil
				l.deployed()
			}
		}
		next, more := l.wait(ctx, began, made)
		switch {
		case ctx.Err() != nil:
			return nil
		case !more:
			return errors.New("the tree cannot be watched any more")
		}
		began = next.at
		// What failed before is due again, together with what was edited since.
		due = append(due, targets(next.files)...)
		// What has changed is not known, and so is everything.
		if next.lost {
			due = append(due, start)
		}
		due = inOrder(due)
	}
}

// wait returns the next edit. Until then it waits for the pods of the last round, if there may be
// new ones: they may never be ready, and an edit is what mends that.
func (l *loop) wait(ctx context.Context, began time.Time, made bool) (next edit, more bool) {
	// The wait for pods ends with the next edit.
	waiting, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	if made {
		done.Go(func() {
			switch err := l.rollout(waiting); {
			// The next edit has ended the wait: nothing is to be said.
			case waiting.Err() != nil:
			case err != nil:
				say("%v; waiting for edits", err)
			default:
				l.rolledOut()
				say("everything runs, %.1f s after the edit; waiting for edits", time.Since(began).Seconds())
			}
		})
	}
	select {
	case next, more = <-l.edits:
	case <-ctx.Done():
	}
	return next, more
}

// say prints a line of the loop's own, between those of make and of the pods.
func say(format string, args ...any) { fmt.Printf("dev: "+format+"\n", args...) }

// command runs a program, whose output is ours. When the context ends it gets SIGTERM: Helm then
// marks its release as failed rather than leave it locked.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	// A child that ignores the signal is killed after that.
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}
