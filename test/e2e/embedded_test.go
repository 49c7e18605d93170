package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// rolloutTime is how long an installation may take until both components are ready.
const rolloutTime = 60 * time.Second

// configAnnotation of a pod has a hash of its configuration.
const configAnnotation = "checksum/config"

// embedded is one server that keeps everything itself, as `helm install` without values makes it.
type embedded struct {
	release
	program string
	empty   []string // what the namespace had before

	began  verdict // when both were ready
	config string  // the hash of the server's configuration before it was upgraded
	// kept are looks at what services have kept, by their promises in this state.
	kept []func(t *testing.T, client cli)
}

func testEmbedded(t *testing.T, c *cluster, program string) {
	e := &embedded{release: c.newNamespace(t, "e2e-embedded").release("q", "quartet"), program: program}
	inOrder(t, slices.Concat([]promise{
		{"wrong values are refused with a sentence that says what to set", e.wrongValues},
		{"the API server accepts what every set of values makes", e.acceptedValues},
		{"helm install without values rolls out within 60 s in a restricted namespace", e.rollout},
		{"helm test passes", e.passesTest},
		{"server and client are on different nodes", e.differentNodes},
		{"the client finds every answer right", func(t *testing.T) { e.findsAllRight(t, e.began) }},
		{"the command line's check passes through kubectl port-forward", e.check},
		{"the port for browsers answers curl", e.answersBrowsers},
	}, promises(e, func(of service) func(*embedded) []promise { return of.embedded }), []promise{
		{"a pod whose memory is resized restarts with it in place, and for processors it keeps running", e.resize},
		{"helm upgrade without a change replaces no pod", e.upgradeNothing},
		{"helm upgrade with a changed setting replaces the pod and keeps its data", e.upgradeSetting},
		{"helm uninstall leaves nothing behind but the claim", e.uninstall},
		{"the next helm install takes the claim up again", e.reinstall},
	})...)
}

// testHelm3 has Helm 3 do what a release goes through. The other states use Helm 4, which changes
// what is installed in another way, on the server.
func testHelm3(t *testing.T, c *cluster, program string) {
	if _, err := exec.LookPath("helm3"); err != nil {
		t.Skip("NOT TRIED, because helm3 is not on PATH")
	}
	e := &embedded{release: c.newNamespace(t, "e2e-helm3").release("q", "quartet"), program: program}
	e.release.program = "helm3"
	inOrder(t,
		promise{"wrong values are refused with a sentence that says what to set", e.wrongValues},
		promise{"the API server accepts what every set of values makes", e.acceptedValues},
		promise{"helm install without values rolls out within 60 s in a restricted namespace", e.rollout},
		promise{"helm test passes", e.passesTest},
		promise{"the command line's check passes through kubectl port-forward", e.check},
		promise{"helm upgrade without a change replaces no pod", e.upgradeNothing},
		promise{"helm upgrade with a changed setting replaces the pod", e.upgradeSetting},
		promise{"helm rollback takes the setting back", e.rollbackSetting},
		promise{"helm uninstall leaves nothing behind but the claim", e.uninstall},
	)
}

func (e *embedded) wrongValues(t *testing.T) {
	e.empty = e.inventoryNow(t)
	for _, wrong := range []struct{ set, sentence string }{
		{"server.replica=1", "'replica'"},
		{"server.terminationGracePeriodSeconds=5", "set it to at least"},
	} {
		said := e.refused(t, "--set", wrong.set)
		if lines := strings.Count(strings.TrimSpace(said), "\n"); lines > 3 || !strings.Contains(said, wrong.sentence) {
			t.Errorf("--set %s: expected a sentence with %q, got\n%s", wrong.set, wrong.sentence, said)
		}
	}
	if left := added(e.empty, e.inventoryNow(t)); len(left) != 0 {
		t.Errorf("what was refused has left %v", left)
	}
}

func (e *embedded) rollout(t *testing.T) {
	e.install(t)
	e.rolledOut(t, rolloutTime)
	e.began = e.verdictNow(t)
}

func (e *embedded) differentNodes(t *testing.T) {
	server, client := e.somePods(t, "server", 1)[0].Spec.NodeName, e.somePods(t, "client", 1)[0].Spec.NodeName
	t.Logf("server on %s, client on %s", server, client)
	if server == client {
		t.Errorf("both are on %s", server)
	}
}

// cli is the client on this machine, connected by a port-forward that lasts as long as the test.
func (e *embedded) cli(t *testing.T) cli {
	t.Helper()
	return cli{e.program, e.forward(t, "service/q-quartet-server", 50051)}
}

func (e *embedded) check(t *testing.T) { t.Logf("check\n%s", e.cli(t).run(t, "", "check")) }

// remembers wants what services have kept.
func (e *embedded) remembers(t *testing.T) {
	t.Helper()
	client := e.cli(t)
	for _, look := range e.kept {
		look(t, client)
	}
}

func (e *embedded) upgradeNothing(t *testing.T) {
	server, client := e.somePods(t, "server", 1)[0].UID, e.somePods(t, "client", 1)[0].UID
	e.upgrade(t)
	e.rolledOut(t, rolloutTime)
	if e.somePods(t, "server", 1)[0].UID != server || e.somePods(t, "client", 1)[0].UID != client {
		t.Error("there are new pods")
	}
}

func (e *embedded) upgradeSetting(t *testing.T) {
	before := e.somePods(t, "server", 1)[0]
	e.config = before.Annotations[configAnnotation]
	e.upgrade(t, "--set", "server.config.RPC_MAX_IN_FLIGHT=2000")
	e.rolledOut(t, rolloutTime)
	switch now := e.somePods(t, "server", 1)[0]; {
	case now.UID == before.UID:
		t.Error("the pod is still the old one")
	case e.config == "" || now.Annotations[configAnnotation] == e.config:
		t.Errorf("the configuration is still %q", e.config)
	}
	e.remembers(t)
}

func (e *embedded) rollbackSetting(t *testing.T) {
	e.helm(t, "rollback", e.release.name)
	e.rolledOut(t, rolloutTime)
	if now := e.somePods(t, "server", 1)[0].Annotations[configAnnotation]; now != e.config {
		t.Errorf("the configuration is %s, and was %s before the upgrade", now, e.config)
	}
}

func (e *embedded) uninstall(t *testing.T) {
	claims := claims(added(e.empty, e.inventoryNow(t)))
	e.helm(t, "uninstall", e.release.name)
	eventually(t, "an empty namespace", time.Minute, func(ctx context.Context) error {
		now, err := e.inventory(ctx)
		if left := added(e.empty, now); err == nil && !slices.Equal(left, claims) {
			return fmt.Errorf("left are %v", left)
		}
		return err
	})
}

func (e *embedded) reinstall(t *testing.T) {
	e.install(t)
	e.rolledOut(t, rolloutTime)
	e.remembers(t)
	e.helm(t, "uninstall", e.release.name) // The other states want the processors.
}
