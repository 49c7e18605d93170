package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// consolePort is where a client has its console.
const consolePort = 9466

// consoleInBrowser has Chromium try the console of a client in the cluster as test/browser tries one of
// a process: every mode, the pages of services, and what a person sees of rollouts meanwhile. One of
// them is begun by the button of the console.
func (s *clustered) consoleInBrowser(t *testing.T) {
	address := s.forward(t, "service/q-quartet-client", consolePort)
	old := names(s.somePods(t, "server", serverReplicas))
	cmd := exec.CommandContext(t.Context(), filepath.Join(repository, "test", "browser", "run"), "--if-possible")
	restart := s.kubectl("rollout", "restart", "deployment/q-quartet-server")
	status := s.kubectl("rollout", "status", "deployment/q-quartet-server", fmt.Sprint("--timeout=", restartTime))
	cmd.Env = append(os.Environ(), "CONSOLE=http://"+address+"/",
		fmt.Sprintf("ROLLOUT=kubectl %s && kubectl %s", strings.Join(restart, " "), strings.Join(status, " ")))
	out, err := cmd.CombinedOutput()
	t.Logf("test/browser/run\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "NOT TRIED") {
		t.Skip("test/browser/run says what is missing")
	}
	s.rolledOut(t, restartTime)
	for _, name := range names(s.somePods(t, "server", serverReplicas)) {
		if slices.Contains(old, name) {
			t.Errorf("%s was not replaced", name)
		}
	}
}
