package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"
)

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) ->`)

// forward opens a port of a service or pod on this machine, until the end of the test, and returns
// its address. It leads to one pod, whatever its target, and breaks with it.
func (n *namespace) forward(t *testing.T, target string, port int) string {
	t.Helper()
	address, _ := n.forwardFrom(t, "", target, port)
	return address
}

// forwardFrom is forward at a port of this machine, "" for any, and returns what does it too.
func (n *namespace) forwardFrom(
	t *testing.T, local, target string, port int,
) (address string, p *process) {
	t.Helper()
	p = start(t, nil, "kubectl", n.kubectl("port-forward", "--address=127.0.0.1", target, fmt.Sprintf("%s:%d", local, port))...)
	eventually(t, "port-forward to "+target, 20*time.Second, func(context.Context) error {
		if found := forwarding.FindStringSubmatch(p.stdout.String()); found != nil {
			address = found[1]
			return nil
		}
		if !p.running() {
			t.Fatalf("kubectl port-forward %s ended: %v\n%s", target, p.err, &p.stderr)
		}
		return errors.New(p.stdout.String() + p.stderr.String())
	})
	return address, p
}
