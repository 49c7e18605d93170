package e2e

import (
	"path/filepath"
	"testing"
)

// acceptedValues has the API server look at everything that each set of values makes, without
// keeping it: it knows every field of every kind, and takes none that it does not know.
func (e *embedded) acceptedValues(t *testing.T) {
	for _, file := range e.files(t, "ci/*.yaml", "services/*/ci/*.yaml", "values-*.yaml") {
		// The kinds of the operator and of gateways are not in this cluster, and the test's pod needs an
		// account that a dry run does not make.
		args := e.helm("template", e.release.name, e.chart, "--values", file,
			"--skip-tests", "--validate=false", "--kube-version", "1.36.0",
			"--set", "metrics.podMonitor.enabled=false,metrics.alerts.prometheusRule.enabled=false,gateway.enabled=false")
		made := run(t, helm, args...).stdout
		_, err := try(t.Context(), made, "kubectl", "--context", e.context, "--namespace", e.namespace.name,
			"apply", "--dry-run=server", "--validate=strict", "--filename=-")
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
