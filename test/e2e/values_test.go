package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// acceptedValues has the API server look at everything that each set of values makes, without
// keeping it: it knows every field of every kind, and takes none that it does not know.
func (e *embedded) acceptedValues(t *testing.T) {
	const pods = "certificates.k8s.io/v1/PodCertificateRequest"
	_, err := try(t.Context(), "", "kubectl", "--context", e.context, "explain", "podcertificaterequests", "--api-version=certificates.k8s.io/v1")
	old := err != nil // Kubernetes before 1.37
	for _, file := range e.files(t, "ci/*.yaml", "services/*/ci/*.yaml", "values-*.yaml") {
		kinds := neededKinds(t, file)
		if old && strings.Contains(kinds, pods) {
			t.Logf("%s: not tried, because the cluster has no %s", filepath.Base(file), pods)
			continue
		}
		// The kinds of the operator and of gateways are not in this cluster, and the test's pod needs an
		// account that a dry run does not make.
		made := e.helm(t, "template", e.release.name, e.chart, "--values", file,
			"--skip-tests", "--api-versions", kinds, "--validate=false", "--kube-version", "1.36.0",
			"--set", "metrics.podMonitor.enabled=false,metrics.alerts.prometheusRule.enabled=false,gateway.enabled=false").stdout
		_, err := try(t.Context(), made, "kubectl", "--context", e.context, "--namespace", e.namespace.name,
			"apply", "--dry-run=server", "--validate=strict", "--filename=-")
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}

// neededKinds is what a comment "# cluster: group/version/Kind ..." of a file says that the cluster
// has, with commas.
func neededKinds(t *testing.T, file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if kinds, ok := strings.CutPrefix(line, "# cluster: "); ok {
			return strings.Join(strings.Fields(kinds), ",")
		}
	}
	return ""
}
