package store

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/quartet/server/object/store/s3test"
)

const (
	testAccessKey = "quartet"
	testSecretKey = "a-secret-for-tests"
)

// gateway is a versitygw on a folder, a real S3 service in a process of its own.
type gateway struct {
	program, folder, address string
	process                  *exec.Cmd
}

func startGateway(t testing.TB) *gateway {
	t.Helper()
	program, err := exec.LookPath("versitygw")
	if err != nil {
		t.Skip("versitygw is not on the PATH: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
	}
	g := &gateway{program: program, folder: t.TempDir(), address: freeAddress(t)}
	if err := os.Mkdir(filepath.Join(g.folder, "quartet"), folderMode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	if err := g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// freeAddress is where nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (g *gateway) url() string { return s3test.URL(g.address, "quartet") }

// start returns when the gateway listens.
func (g *gateway) start(ctx context.Context) error {
	g.process = exec.CommandContext(ctx, g.program, "--access", testAccessKey, "--secret", testSecretKey,
		"--port", g.address, "--keep-alive", "--quiet", "posix", g.folder)
	err := g.process.Start()
	for range 500 {
		if err != nil {
			return err
		}
		if c, dialErr := new(net.Dialer).DialContext(ctx, "tcp", g.address); dialErr == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
		err = ctx.Err()
	}
	return errors.New("versitygw does not listen")
}

// kill ends it as a power cut would.
func (g *gateway) kill() {
	if g.process != nil && g.process.Process != nil {
		_ = g.process.Process.Kill()
		_ = g.process.Wait()
		g.process = nil
	}
}
