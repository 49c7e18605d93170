package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// attackTime is how long each attack lasts, and the quiet time before it.
	attackTime = 3 * time.Second
	// memoryShare is how much of its memory limit a container may need, in percent.
	memoryShare = 95
)

// attacked is one server that keeps everything itself, with little memory, under attack.
type attacked struct {
	release
	program string
	memory  int64 // the limit, in MiB
	pod     corev1.Pod
}

// testAttack has hostile callers call servers with memory limits that the kernel enforces. It runs
// the worst rows of `make attack`, which also measures what takes a server of its own.
func testAttack(t *testing.T, c *cluster) {
	program, err := filepath.Abs(filepath.Join(t.TempDir(), "attack"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, "go", "-C", repository, "build", "-o", program, "./test/attack")
	for _, memory := range []int64{256, 512} {
		t.Run(fmt.Sprintf("%d MiB", memory), func(t *testing.T) {
			n := c.newNamespace(t, fmt.Sprintf("e2e-attack-%d", memory))
			a := &attacked{release: n.release("q", "quartet"), program: program, memory: memory}
			inOrder(t,
				promise{"one server starts", a.start},
				promise{"under attack it is not killed, and a neighbour loses no call", a.attack},
			)
		})
	}
}

func (a *attacked) start(t *testing.T) {
	a.install(t, "--set", strings.Join([]string{
		"client.replicas=0", "server.service.type=NodePort",
		"server.resources.requests.memory=128Mi", fmt.Sprintf("server.resources.limits.memory=%dMi", a.memory),
	}, ","))
	a.rolledOut(t, rolloutTime)
	a.pod = a.somePods(t, "server", 1)[0]
}

// attack calls the server by way of two nodes, so that the attacker and the neighbour are different
// callers to it.
func (a *attacked) attack(t *testing.T) {
	addresses := a.nodePorts(t, "q-quartet-server", "grpc")
	if len(addresses) < 2 {
		t.Fatalf("a cluster with %d nodes has no way for a second caller", len(addresses))
	}
	var most memory
	stop := a.watchMemory(t, &most)
	out, err := try(t.Context(), "", a.program, "-worst", "-duration", attackTime.String(), "-memory", fmt.Sprint(a.memory),
		"-attacker", addresses[0], "-neighbour", addresses[1], "-probe", a.forward(t, "pod/"+a.pod.Name, 50052))
	stop()
	t.Logf("%s%s", out.stderr, out.stdout)
	if err != nil {
		t.Error(err)
	}
	now := a.somePods(t, "server", 1)[0]
	if now.UID != a.pod.UID || restarts(now) > 0 {
		t.Errorf("the server was restarted: %+v", now.Status.ContainerStatuses)
	}
	const mib = 1 << 20
	t.Logf("at most %d MiB were needed, and %d MiB used with files", most.needed/mib, most.most/mib)
	if most.needed == 0 || most.needed > a.memory*mib/100*memoryShare {
		t.Errorf("the server needed %d MiB of %d MiB", most.needed/mib, a.memory)
	}
}

// watchMemory looks at the memory of the server until it is told to stop, and notes the most there
// was.
func (a *attacked) watchMemory(t *testing.T, most *memory) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ticker := time.NewTicker(pollInterval); ctx.Err() == nil; {
			// A look may fail, as when the container is being restarted.
			if now, err := a.memoryOf(ctx, a.pod); err == nil {
				most.needed, most.most = max(most.needed, now.needed), max(most.most, now.most)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }
}
