package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const server = "q-quartet-server"

// upgradeValues are those of the release, with another setting each time, so that all pods are
// replaced.
func (s *clustered) upgradeValues(more ...string) []string {
	s.upgrades++
	setting := fmt.Sprintf("server.config.RPC_MAX_IN_FLIGHT=%d", 2000+s.upgrades)
	return append([]string{"--reuse-values", "--set", setting}, more...)
}

// upgradeScaled changes the number of replicas behind Helm's back, and then something else with
// Helm.
func (s *clustered) upgradeScaled(t *testing.T) {
	s.scale(t, server, serverReplicas-1)
	s.upgrade(t, s.upgradeValues()...)
	s.wantReplicas(t, serverReplicas-1)
	s.rolledOut(t, restartTime)
	s.upgrade(t, s.upgradeValues()...)
	s.wantReplicas(t, serverReplicas-1)
}

// upgradeAutoscaled has an autoscaler set the number. It has no metrics here, and keeps to its
// minimum without them.
func (s *clustered) upgradeAutoscaled(t *testing.T) {
	s.upgrade(t, s.upgradeValues("--set", fmt.Sprintf("server.autoscaling.enabled=true,server.autoscaling.minReplicas=%d", serverReplicas))...)
	if got := s.replicas(t, t.Context()); got < serverReplicas-1 {
		t.Errorf("there are %d replicas until the autoscaler has looked", got)
	}
	eventually(t, "the autoscaler's minimum", 90*time.Second, func(ctx context.Context) error {
		if got := s.replicas(t, ctx); got != serverReplicas {
			return fmt.Errorf("there are %d replicas", got)
		}
		return nil
	})
	s.upgrade(t, s.upgradeValues()...)
	s.wantReplicas(t, serverReplicas)
	s.rolledOut(t, restartTime)
}

// rollback is to the upgrade before, whose release the autoscaler has changed since.
func (s *clustered) rollback(t *testing.T) {
	s.helm(t, "rollback", s.release.name)
	s.wantReplicas(t, serverReplicas)
	s.rolledOut(t, restartTime)
}

func (s *clustered) upgradeFixed(t *testing.T) {
	s.upgrade(t, s.upgradeValues("--set", "server.autoscaling.enabled=false")...)
	s.wantReplicas(t, serverReplicas)
	s.rolledOut(t, restartTime)
}

// uninstall leaves what was there before; a volume is not among what a clustered release has.
func (s *clustered) uninstall(t *testing.T) {
	s.helm(t, "uninstall", s.release.name)
	eventually(t, "an empty namespace", 2*time.Minute, func(ctx context.Context) error {
		now, err := s.inventory(ctx)
		if left := added(s.before, now); err == nil && len(left) != 0 {
			return fmt.Errorf("left are %v", left)
		}
		return err
	})
}

// replicas is how many the Deployment asks for.
func (s *clustered) replicas(t *testing.T, ctx context.Context) int {
	t.Helper()
	found, err := s.kube.AppsV1().Deployments(s.namespace.name).Get(ctx, server, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return int(*found.Spec.Replicas)
}

func (s *clustered) wantReplicas(t *testing.T, want int) {
	t.Helper()
	if got := s.replicas(t, t.Context()); got != want {
		t.Errorf("the Deployment asks for %d replicas, expected %d", got, want)
	}
}

// resize gives the server's running pod more processor time, then more memory. The container starts
// anew for the memory only, and Go's limit follows.
func (e *embedded) resize(t *testing.T) {
	pod := e.somePods(t, "server", 1)[0]
	for _, change := range []struct {
		resources string
		restarts  int
		limit     float64
	}{
		{`{"requests":{"cpu":"60m"}}`, 0, 512 << 20 / 8 * 7},
		{`{"limits":{"memory":"640Mi"}}`, 1, 640 << 20 / 8 * 7},
	} {
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"server","resources":%s}]}}`, change.resources)
		run(t, "kubectl", e.kubectl("patch", "pod", pod.Name, "--subresource=resize", "--patch", patch)...)
		eventually(t, "resize to "+change.resources, rolloutTime, func(ctx context.Context) error {
			now := e.somePods(t, "server", 1)[0]
			has := now.Status.ContainerStatuses[0].Resources
			if cpu := has.Requests.Cpu().String(); cpu != "60m" {
				return fmt.Errorf("the container has requested %s of a processor", cpu)
			}
			if _, ready := readySince(now); !ready || restarts(now) != change.restarts {
				return fmt.Errorf("ready %v, %d restarts, %s of memory", ready, restarts(now), has.Limits.Memory())
			}
			m, err := e.scrape(ctx, now.Name, serverMetrics)
			if err != nil {
				return err
			}
			if got := m.sum(series{metric: "go_gc_gomemlimit_bytes"}); got != change.limit {
				return fmt.Errorf("GOMEMLIMIT is %v, expected %v", got, change.limit)
			}
			return nil
		})
		if now := e.somePods(t, "server", 1)[0]; now.UID != pod.UID {
			t.Error("there is a new pod")
		}
	}
}
