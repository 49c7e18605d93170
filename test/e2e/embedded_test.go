package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rolloutTime is how long an installation may take until both components are ready.
const rolloutTime = 60 * time.Second

// embedded is one server that keeps everything itself, as `helm install` without values makes it.
type embedded struct {
	release
	program string
	empty   []string // what the namespace had before

	began   verdict // when both were ready
	content string  // of the object "kept"
}

func testEmbedded(t *testing.T, c *cluster, program string) {
	e := &embedded{release: c.newNamespace(t, "e2e-embedded").release("q", "quartet"), program: program}
	inOrder(t,
		promise{"wrong values are refused with a sentence that says what to set", e.wrongValues},
		promise{"the API server accepts what every set of values makes", e.acceptedValues},
		promise{"helm install without values rolls out within 60 s in a restricted namespace", e.rollout},
		promise{"helm test passes", e.passesTest},
		promise{"server and client are on different nodes", e.differentNodes},
		promise{"the command line does all four modes through kubectl port-forward", e.commandLine},
		promise{"the client finds every answer right", func(t *testing.T) { e.findsAllRight(t, e.began) }},
		promise{"helm upgrade without a change replaces no pod", e.upgradeNothing},
		promise{"helm upgrade with a changed setting replaces the pod and keeps its data", e.upgradeSetting},
		promise{"helm uninstall leaves nothing behind but the claim", e.uninstall},
		promise{"the next helm install takes the claim up again", e.reinstall},
	)
}

func (e *embedded) wrongValues(t *testing.T) {
	e.empty = e.inventoryNow(t)
	for _, wrong := range []struct{ set, sentence string }{
		{"server.replicas=2", "set server.objects.url"},
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

func (e *embedded) commandLine(t *testing.T) {
	client := e.cli(t)
	t.Logf("check\n%s", client.run(t, "", "check"))
	folder := t.TempDir()
	e.content = newContent(t, 1, 9<<20) // More than one part.
	file := filepath.Join(folder, "kept")
	if err := os.WriteFile(file, []byte(e.content), 0o600); err != nil {
		t.Fatal(err)
	}
	client.run(t, "", "upload", file, "--sha256")
	e.lookUp(t, client)
	e.compare(t, client)
	e.converse(t, client)
}

// lookUp wants the object's size in its description.
func (e *embedded) lookUp(t *testing.T, client cli) {
	t.Helper()
	var object struct {
		Size string `json:"size_bytes"`
	}
	if err := json.Unmarshal([]byte(client.run(t, "", "get", "kept", "--json")), &object); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(len(e.content)); object.Size != want {
		t.Errorf("get: %s bytes, expected %s", object.Size, want)
	}
}

// compare downloads the object and wants the bytes that were uploaded.
func (e *embedded) compare(t *testing.T, client cli) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "copy")
	client.run(t, "", "download", "kept", file)
	if got, err := os.ReadFile(file); err != nil || string(got) != e.content {
		t.Fatalf("download: not the %d bytes that were uploaded, but %d others (%v)", len(e.content), len(got), err)
	}
}

// converse has one participant listen while another one speaks.
func (e *embedded) converse(t *testing.T, client cli) {
	t.Helper()
	listener := start(t, nil, client.program, client.args("chat", "lobby", "--as", "ann", "--after", "0", "--listen")...)
	client.run(t, "hello\nis anybody there?\n", "chat", "lobby", "--as", "bob")
	eventually(t, "what bob said, at ann's", 20*time.Second, func(context.Context) error {
		if heard := listener.stdout.String(); !strings.Contains(heard, "bob: hello\n") || !strings.Contains(heard, "bob: is anybody there?\n") {
			return fmt.Errorf("heard %q %s", heard, &listener.stderr)
		}
		return nil
	})
}

// remembers wants what was uploaded and said before.
func (e *embedded) remembers(t *testing.T) {
	t.Helper()
	client := e.cli(t)
	e.compare(t, client)
	if heard := client.run(t, "", "chat", "lobby", "--as", "cid", "--after", "0"); !strings.Contains(heard, "bob: hello\n") {
		t.Errorf("of what was said there is only %q", heard)
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
	before := e.somePods(t, "server", 1)[0].UID
	e.upgrade(t, "--set", "server.config.OBJECTS_CHUNK_BYTES=128KiB")
	e.rolledOut(t, rolloutTime)
	if e.somePods(t, "server", 1)[0].UID == before {
		t.Error("the pod is still the old one")
	}
	e.remembers(t)
}

func (e *embedded) uninstall(t *testing.T) {
	run(t, "helm", e.helm("uninstall", e.release.name)...)
	claim := []string{"persistentvolumeclaim/q-quartet-server-data"}
	eventually(t, "an empty namespace", time.Minute, func(ctx context.Context) error {
		now, err := e.inventory(ctx)
		if left := added(e.empty, now); err == nil && !slices.Equal(left, claim) {
			return fmt.Errorf("left are %v", left)
		}
		return err
	})
}

func (e *embedded) reinstall(t *testing.T) {
	e.install(t)
	e.rolledOut(t, rolloutTime)
	e.remembers(t)
	run(t, "helm", e.helm("uninstall", e.release.name)...) // The other states want the processors.
}

func (n *namespace) inventoryNow(t *testing.T) []string {
	t.Helper()
	all, err := n.inventory(t.Context())
	if err == nil && len(all) == 0 {
		err = errors.New("kubectl lists nothing at all")
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}
