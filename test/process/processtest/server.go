// Package processtest gives tests of the client a real server in a process of its own, which they
// may kill.
package processtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/test/process"
)

// folder has the programs that tests of a package have built; Clean removes it.
var folder = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "quartet-test-") })

// building lets one test build while the others wait for what it built.
var building sync.Mutex

// heedSIGHUP has the programs that tests start heed SIGHUP, also where the tests run under nohup: a
// signal that is ignored is ignored by children too, and one that is handled is not.
var heedSIGHUP = sync.OnceFunc(func() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
})

// Binary is the path of one of the programs, "server" or "client", which is built when it is first
// asked for.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	heedSIGHUP()
	building.Lock()
	defer building.Unlock()
	dir, err := folder()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pkg := "example.com/quartet/" + name
	if err := process.Build(ctx, dir, []string{pkg}, buildFlags...); err != nil {
		tb.Fatal(err)
	}
	if err := list(ctx, pkg); err != nil {
		tb.Fatal(err)
	}
	return path
}

// list lists the folders of this module that a package is compiled from. The cache of test results
// does not see what the compiler reads. It sees which folders a test has listed, and runs the test
// again when a file in one of them has changed.
func list(ctx context.Context, pkg string) error {
	const ours = "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}"
	folders, err := exec.CommandContext(ctx, "go", "list", "-deps", "-f", ours, pkg).Output()
	if err != nil {
		return fmt.Errorf("go list -deps %s: %w", pkg, err)
	}
	for line := range strings.Lines(string(folders)) {
		if folder := strings.TrimSuffix(line, "\n"); folder != "" {
			if _, err := os.ReadDir(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clean removes what was built. It is for TestMain, when all tests are done.
func Clean() {
	if dir, err := folder(); err == nil {
		_ = os.RemoveAll(dir) // It is in the temporary folder; whatever is left goes with that.
	}
}

// Server is a running server with its data in a folder of the test.
type Server struct {
	// Address is where it answers gRPC, over all its restarts.
	Address string

	tb      testing.TB
	folder  string
	env     []string
	process atomic.Pointer[process.Process] // Kill may be called by any goroutine.
}

// Start starts a server, with more environment. It keeps its data where its services do by default,
// below a folder of the test, and is gone when the test ends.
func Start(tb testing.TB, env ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, Address: "127.0.0.1:0", folder: tb.TempDir(), env: append([]string{
		process.Setting("PROBE_ADDRESS", "127.0.0.1:0"),
		process.Setting("HTTP_ADDRESS", "127.0.0.1:0"),
		process.Setting("DRAIN_DELAY", "0s"),
		process.Setting("DRAIN_BUDGET", "15s"),
	}, env...)}
	s.Restart()
	tb.Cleanup(s.Kill)
	return s
}

// Restart starts the server again where it was.
func (s *Server) Restart() {
	s.tb.Helper()
	p, err := process.StartIn(s.folder, Binary(s.tb, "server"),
		append(s.env, process.Setting("GRPC_ADDRESS", s.Address)), testLog{s.tb})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.process.Store(p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addresses, err := p.Addresses(ctx)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.Address = addresses["grpc"]
}

// Kill ends the server as a crash would.
func (s *Server) Kill() { s.process.Load().Kill() }

// Stop ends the server as Kubernetes does.
func (s *Server) Stop() {
	s.tb.Helper()
	if err := s.process.Load().Stop(time.Minute); err != nil {
		s.tb.Errorf("the server did not drain cleanly: %v", err)
	}
}

// testLog shows what a process logs where the test's own output is.
type testLog struct{ tb testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	if len(line) > 0 {
		l.tb.Logf("server: %s", line[:len(line)-1])
	}
	return len(line), nil
}
