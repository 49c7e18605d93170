package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// again is the pause before a command that should not have ended is started again.
const again = 500 * time.Millisecond

// kubectl has what every one of its commands is told.
type kubectl struct{ context, namespace string }

// command is kubectl with arguments, in the context and namespace. It is killed when ctx ends.
func (k kubectl) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(
		ctx,
		"kubectl",
		append([]string{"--context", k.context, "--namespace", k.namespace}, args...)...)
}

// wait waits until the pods of all deployments are those of the last deployment.
func (k kubectl) wait(ctx context.Context, deployments []string) error {
	for _, deployment := range deployments {
		// rollout status waits by itself, and fails when the deployment's own deadline has passed.
		if output, err := k.command(ctx, "rollout", "status", deployment).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %s", deployment, problem(output, err))
		}
	}
	return nil
}

// forward keeps the ports of a service forwarded, given as service/name:port or
// service/name:local:remote, until its context ends. A forward leads to one pod: it ends with the
// first connection after that pod has gone, and is made anew.
func (k kubectl) forward(ctx context.Context, spec string) {
	// kubectl takes the name and the ports as two arguments.
	service, ports, _ := strings.Cut(spec, ":")
	// The same problem is said once, however often the command is started again.
	for said := ""; ctx.Err() == nil; pause(ctx) {
		output, err := k.command(ctx, "port-forward", service, ports).CombinedOutput()
		if text := problem(output, err); ctx.Err() == nil && text != said {
			said = text
			say("port-forward %s: %s", spec, text)
		}
	}
}

// logs prints what pods log from now on, also those that come later, until its context ends.
func (k kubectl) logs(ctx context.Context, selector string) {
	f := followers{
		kubectl: k,
		since:   map[string]time.Time{},
		follows: map[string]bool{},
		began:   time.Now(),
	}
	defer f.running.Wait()
	// kubectl's watch ends now and then, as when the API server restarts.
	for ; ctx.Err() == nil; pause(ctx) {
		// The watch begins with a line for each pod that is there.
		watch := k.command(ctx, "get", "pods", "--selector", selector, "--watch", "--output", "name")
		names, err := watch.StdoutPipe()
		if err != nil || watch.Start() != nil {
			continue
		}
		// A line for each change of a pod.
		for lines := bufio.NewScanner(names); lines.Scan(); {
			f.follow(ctx, lines.Text())
		}
		_ = watch.Wait() // It is started again, however it ended.
	}
}

// followers are the commands that print the logs of one pod each.
type followers struct {
	kubectl kubectl
	// began is when logs began: what pods have logged before is not of interest.
	began time.Time
	// running are the followers, for logs to wait for.
	running sync.WaitGroup

	// mu guards what follows, which the followers change when they end.
	mu      sync.Mutex
	follows map[string]bool
	since   map[string]time.Time // when a pod's follower ended
}

// follow prints a pod's log to its end, unless that is done already. Before a container runs there
// is none, and a container that ends is started anew: both are changes of the pod, after each of
// which follow is called again.
func (f *followers) follow(ctx context.Context, pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.follows[pod] {
		return
	}
	f.follows[pod] = true
	// A pod that was followed before goes on from there, so that no line comes twice.
	since, ok := f.since[pod]
	if !ok {
		since = f.began
	}
	f.running.Go(func() {
		follow := f.kubectl.command(ctx, "logs", pod, "--follow", "--prefix", "--all-containers",
			"--since-time", since.UTC().Format(time.RFC3339Nano))
		// kubectl's own errors, as about a container that does not run yet, are of no interest.
		follow.Stdout, follow.Stderr = os.Stdout, io.Discard
		err := follow.Run()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.follows, pod)
		// A follower that failed has printed nothing or not all; the next one begins where it did.
		if err == nil {
			f.since[pod] = time.Now()
		}
	})
}

// problem is the last line that a command printed, or how it ended.
func problem(output []byte, err error) string {
	text := strings.TrimSpace(string(output))
	if text = text[strings.LastIndex(text, "\n")+1:]; text == "" && err != nil {
		return err.Error()
	}
	return text
}

// pause waits before another try, or until ctx ends.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(again):
	}
}
