package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// release is one installation of a chart.
type release struct {
	*namespace
	name, chart string
	// program is the helm that installs it.
	program string
}

func (n *namespace) release(name, chart string) release {
	return release{n, name, filepath.Join(repository, "charts", chart), "helm"}
}

// files are those of the chart that match one of some patterns, at least one.
func (r release) files(t *testing.T, patterns ...string) (all []string) {
	t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(r.chart, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no files like %q", r.chart, patterns)
	}
	return all
}

// helm runs helm for this namespace.
func (r release) helm(t *testing.T, args ...string) output {
	t.Helper()
	return run(t, r.program, r.helmArgs(args)...)
}

func (r release) helmArgs(args []string) []string {
	return append([]string{"--kube-context", r.context, "--namespace", r.namespace.name}, args...)
}

// apply installs or upgrades. A warning fails it: that is how the API server says that a pod breaks
// a standard, or that something is deprecated.
func (r release) apply(t *testing.T, verb string, args ...string) {
	t.Helper()
	out := r.helm(t, append([]string{verb, r.name, r.chart}, args...)...)
	if strings.Contains(out.stderr, "Warning:") {
		t.Fatalf("helm %s was warned:\n%s", verb, out.stderr)
	}
}

func (r release) install(t *testing.T, args ...string) { t.Helper(); r.apply(t, "install", args...) }
func (r release) upgrade(t *testing.T, args ...string) { t.Helper(); r.apply(t, "upgrade", args...) }

// refused is what helm says of values with which it must not install.
func (r release) refused(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), "", r.program, r.helmArgs(append([]string{"install", r.name, r.chart}, args...))...)
	if err == nil {
		t.Fatalf("helm install %s was not refused", strings.Join(args, " "))
	}
	return out.stderr
}

// passesTest runs `helm test`, whose output is worth a look.
func (r release) passesTest(t *testing.T) {
	t.Helper()
	began := time.Now()
	out := r.helm(t, "test", r.name, "--timeout=90s")
	if !strings.Contains(out.stdout, "Succeeded") {
		t.Fatalf("helm test ran no test:\n%s", out.stdout)
	}
	t.Logf("helm test took %.1f s\n%s", time.Since(began).Seconds(), out.stdout)
}
