package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// loopTime is how long a development loop may take from nothing to everything, and editTime from
	// an edit to its effect, on a machine that does other things too.
	loopTime = 6 * time.Minute
	editTime = 2 * time.Minute
)

// devLoop is a development loop on a copy of the checkout.
type devLoop struct {
	*namespace
	checkout checkout
	process  *process
	empty    []string // what was in the namespace before
}

// startLoop starts a loop in a namespace, which is made for it.
func startLoop(
	t *testing.T, c *cluster, namespace string, env []string, name string, args ...string,
) *devLoop {
	t.Helper()
	l := &devLoop{namespace: c.newNamespace(t, namespace), checkout: copyRepository(t)}
	l.empty = l.inventoryNow(t)
	l.process = start(t, func(cmd *exec.Cmd) {
		cmd.Dir = string(l.checkout)
		cmd.Env = append(os.Environ(), env...)
	}, name, args...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s%s", name, &l.process.stdout, &l.process.stderr)
		}
	})
	return l
}

// says waits until the loop prints a text so many times.
func (l *devLoop) says(t *testing.T, text string, times int, within time.Duration) time.Duration {
	t.Helper()
	return eventually(t, text, within, func(context.Context) error {
		if !l.process.running() {
			t.Fatalf("the loop ended: %v", l.process.err)
		}
		if n := strings.Count(l.process.stdout.String(), text); n < times {
			return fmt.Errorf("the loop has said so %d times, not %d", n, times)
		}
		return nil
	})
}

// live waits until a server that is ready has logged a text, and says how long that took.
func (l *devLoop) live(t *testing.T, text string) {
	t.Helper()
	took := eventually(t, "a server that says "+text, editTime, func(ctx context.Context) error {
		if !l.process.running() {
			t.Fatalf("the loop ended: %v", l.process.err)
		}
		pods, err := l.pods(ctx, "server")
		for _, pod := range pods {
			_, ready := readySince(pod)
			if ready && strings.Contains(l.log(ctx, pod.Name), text) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("there are %v", names(pods)))
	})
	t.Logf("live after %.1f s", took.Seconds())
}

// log is what a pod has logged, as far as it can be had.
func (l *devLoop) log(ctx context.Context, pod string) string {
	text, _ := l.kube.CoreV1().Pods(l.namespace.name).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	return string(text)
}

// editServer changes what the server prints when it starts. The client's pods stay.
func (l *devLoop) editServer(t *testing.T) {
	before, err := l.pods(t.Context(), "client")
	if err != nil {
		t.Fatal(err)
	}
	const edited = "the server, as edited"
	l.checkout.edit(t, "server/main.go", "func main() {\n", "func main() {\n\tprintln(\""+edited+"\")\n")
	l.live(t, edited)
	after, err := l.pods(t.Context(), "client")
	if err != nil || !slices.Equal(names(after), names(before)) {
		t.Errorf("%v: an edit of the server gave the client new pods: %q, before %q", err, names(after), names(before))
	}
}

// testSkaffold names the namespace as skaffold.yaml does.
func testSkaffold(t *testing.T, c *cluster) {
	l := startLoop(t, c, "quartet", []string{"GRAFANA=false"}, "skaffold", "dev", "--kube-context", c.context,
		"--profile", "embedded", "--port-forward=off", "--interactive=false")
	const watching = "Watching for changes"
	inOrder(t,
		promise{"skaffold dev builds and deploys", func(t *testing.T) {
			t.Logf("from nothing to watching in %.0f s", l.says(t, watching, 1, loopTime).Seconds())
		}},
		promise{"an edit of a source goes live", func(t *testing.T) {
			const said, edited = `"listening"`, `"listening, as edited"`
			l.checkout.edit(t, "internal/app/process.go", said, edited)
			l.live(t, edited)
		}},
		promise{"an edit of the server leaves the client alone", func(t *testing.T) {
			l.says(t, watching, 2, editTime) // What is edited before, skaffold takes for what it has built.
			l.editServer(t)
		}},
		promise{"Ctrl-C leaves nothing behind but the claim", func(t *testing.T) {
			kept := claims(added(l.empty, l.inventoryNow(t)))
			l.process.interrupt()
			eventually(t, "an empty namespace", 90*time.Second, func(ctx context.Context) error {
				now, err := l.inventory(ctx)
				if left := added(l.empty, now); err == nil && !slices.Equal(left, kept) {
					return fmt.Errorf("left are %v", left)
				}
				return err
			})
		}},
	)
}

// testMakeDev has images with a tag of its own, as others test those of the checkout in the same
// cluster.
func testMakeDev(t *testing.T, c *cluster) {
	port := freePort(t)
	l := startLoop(t, c, "make-dev", nil, "make", "dev", "CLUSTER="+strings.TrimPrefix(c.context, "kind-"), "NAMESPACE=make-dev",
		"TAG=make-dev", "GRAFANA=false", "VALUES=charts/quartet/values-embedded.yaml", fmt.Sprintf("FORWARD=service/quartet-server:%d:9464", port))
	// It has things that are in no namespace, without which the namespace cannot be deleted.
	t.Cleanup(func() {
		l.process.kill()
		if _, err := try(context.Background(), "", "helm", "--kube-context", c.context, "--namespace", "make-dev", "uninstall", "platform", "--wait"); err != nil {
			t.Error(err)
		}
	})
	answers := func(t *testing.T) {
		t.Helper()
		eventually(t, "an answer at the forwarded port", time.Minute, func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				err = response.Body.Close()
			}
			return err
		})
	}
	const running = "dev: everything runs"
	inOrder(t,
		promise{"make dev builds and deploys", func(t *testing.T) {
			t.Logf("from nothing to everything in %.0f s", l.says(t, running, 1, loopTime).Seconds())
			answers(t)
		}},
		promise{"an edit that does not compile ends nothing", func(t *testing.T) {
			l.checkout.edit(t, "server/main.go", "func main() {\n", "func main() {{\n")
			l.says(t, "it is tried again after the next edit", 1, editTime)
			l.checkout.edit(t, "server/main.go", "func main() {{\n", "func main() {\n")
			l.says(t, running, 2, editTime)
		}},
		promise{"an edit of the server goes live, and leaves the client alone", func(t *testing.T) {
			l.editServer(t)
			l.says(t, "the server, as edited", 1, editTime)
			l.says(t, running, 3, editTime)
			answers(t)
		}},
		promise{"an edit of the chart goes live", func(t *testing.T) {
			l.checkout.edit(t, "charts/quartet/values.yaml", "\ncommonLabels: {}\n", "\ncommonLabels: {edited: \"yes\"}\n")
			l.says(t, running, 4, editTime)
			if pods, err := l.labelled(t.Context(), "edited=yes"); err != nil || len(pods) == 0 {
				t.Errorf("%v: no pod has the new label", err)
			}
		}},
		promise{"Ctrl-C ends all that it started, and leaves the release", func(t *testing.T) {
			// as a terminal does
			if err := syscall.Kill(-l.process.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			eventually(t, "no process of it", 20*time.Second, func(context.Context) error {
				if err := syscall.Kill(-l.process.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("some are left: %w", err)
				}
				return nil
			})
			if pods, err := l.pods(t.Context(), "server"); err != nil || len(pods) == 0 {
				t.Errorf("%v: the server has gone", err)
			}
		}},
	)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
