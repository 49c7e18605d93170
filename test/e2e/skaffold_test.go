package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// loopTime is how long skaffold may take from nothing to everything, and editTime from an edit to its effect, on a
	// machine that does other things too.
	loopTime = 6 * time.Minute
	editTime = 2 * time.Minute
)

// skaffold is the development loop on a copy of the checkout.
type skaffold struct {
	*namespace
	checkout checkout
	loop     *process
	empty    []string
}

func testSkaffold(t *testing.T, c *cluster) {
	// skaffold.yaml names the namespace.
	s := &skaffold{namespace: c.newNamespace(t, "quartet"), checkout: copyRepository(t)}
	s.empty = s.inventoryNow(t)
	s.loop = s.dev(t)
	inOrder(t,
		promise{"skaffold dev builds and deploys", s.deploys},
		promise{"an edit of a source goes live", s.edit},
		promise{"Ctrl-C leaves nothing behind but the claim", s.stop},
	)
}

// dev starts the loop in its smallest state.
func (s *skaffold) dev(t *testing.T) *process {
	t.Helper()
	loop := start(t, func(cmd *exec.Cmd) {
		cmd.Dir = string(s.checkout)
		cmd.Env = append(os.Environ(), "GRAFANA=false")
	}, "skaffold", "dev", "--kube-context", s.context, "--profile", "embedded", "--port-forward=off", "--interactive=false")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("skaffold dev\n%s%s", &loop.stdout, &loop.stderr)
		}
	})
	return loop
}

// deploys waits until skaffold watches for edits: what is edited before, it takes for what it has built.
func (s *skaffold) deploys(t *testing.T) {
	const watching = "Watching for changes"
	took := eventually(t, watching, loopTime, func(context.Context) error {
		if !s.loop.running() {
			t.Fatalf("skaffold dev ended: %v", s.loop.err)
		}
		if !strings.Contains(s.loop.stdout.String(), watching) {
			return errors.New("skaffold does not say so")
		}
		return nil
	})
	t.Logf("from nothing to watching in %.0f s", took.Seconds())
}

// edit changes what both programs log when they listen.
func (s *skaffold) edit(t *testing.T) {
	const said, edited = `"listening"`, `"listening, as edited"`
	s.checkout.edit(t, "internal/app/process.go", said, edited)
	s.says(t, edited)
}

// says waits until a server that is ready has logged something.
func (s *skaffold) says(t *testing.T, text string) {
	t.Helper()
	took := eventually(t, "a server that says "+text, editTime, func(ctx context.Context) error {
		if !s.loop.running() {
			t.Fatalf("skaffold dev ended: %v", s.loop.err)
		}
		pods, err := s.pods(ctx, "server")
		for _, pod := range pods {
			_, ready := readySince(pod)
			if ready && strings.Contains(s.log(ctx, pod.Name), text) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("there are %v", names(pods)))
	})
	t.Logf("live after %.0f s", took.Seconds())
}

// log is what a pod has logged, as far as it can be had.
func (s *skaffold) log(ctx context.Context, pod string) string {
	text, _ := s.kube.CoreV1().Pods(s.namespace.name).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	return string(text)
}

func (s *skaffold) stop(t *testing.T) {
	kept := claims(added(s.empty, s.inventoryNow(t)))
	s.loop.interrupt()
	eventually(t, "an empty namespace", 90*time.Second, func(ctx context.Context) error {
		now, err := s.inventory(ctx)
		if left := added(s.empty, now); err == nil && !slices.Equal(left, kept) {
			return fmt.Errorf("left are %v", left)
		}
		return err
	})
}
