package e2e

import "testing"

// promise is something that the project says of itself, and the test of it.
type promise struct {
	name string
	keep func(t *testing.T)
}

// inOrder tries promises one after another. Each finds the cluster as the one before has left it,
// so that the first one that is broken ends the row.
func inOrder(t *testing.T, promises ...promise) {
	for _, p := range promises {
		if !t.Run(p.name, p.keep) {
			t.FailNow()
		}
	}
}

// TestQuartet states the order. Each part has a namespace of its own and can be run alone. Those
// that mostly wait run at the same time, after the others.
func TestQuartet(t *testing.T) {
	c := openCluster(t)
	program := buildCLI(t)
	t.Run("embedded", func(t *testing.T) { testEmbedded(t, c, program) })
	// template:only quartet
	t.Run("attack", func(t *testing.T) { testAttack(t, c) })
	// template:end
	t.Run("clustered", func(t *testing.T) { testClustered(t, c, program) })
	t.Run("telemetry", func(t *testing.T) { testTelemetry(t, c) })
	t.Run("skaffold", func(t *testing.T) { testSkaffold(t, c) })
	t.Run("make dev", func(t *testing.T) { testMakeDev(t, c) })
	t.Run("helm 3", func(t *testing.T) {
		t.Parallel()
		testHelm3(t, c, program)
	})
	t.Run("secured", func(t *testing.T) {
		t.Parallel()
		testSecured(t, c, program)
	})
}
