package s3

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/quartet/internal/porttest"
	"example.com/quartet/server/object/enginetest"
	"example.com/quartet/server/object/s3/s3test"
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
	g := &gateway{program: program, folder: t.TempDir(), address: porttest.Address(t)}
	if err := os.Mkdir(filepath.Join(g.folder, "quartet"), 0o750); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	if err := g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) url() string { return s3test.URL(g.address, "quartet") }

// start returns when the gateway listens.
func (g *gateway) start(ctx context.Context) error {
	g.process = exec.CommandContext(ctx, g.program, "--access", testAccessKey, "--secret",
		testSecretKey,
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

// A real service does what the fake does.
func TestEngineOnVersitygw(t *testing.T) {
	const part = 5 << 20 // It refuses smaller ones.
	g := startGateway(t)
	t.Setenv("AWS_ACCESS_KEY_ID", testAccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecretKey)
	s := open(t, g.url(), part)
	for _, size := range []int{0, 1000, 60_000, part, 2*part + 12345} {
		h, content := header("o"), enginetest.Content(size)
		u, err := enginetest.Send(t.Context(), s, h, content[:size/2], 0)
		if err != nil {
			t.Fatal(err)
		}
		committed, err := u.Pause()
		if err != nil || committed != int64(size/2/part*part) {
			t.Fatalf("%d of %d bytes are committed, %v", committed, size/2, err)
		}
		_ = u.Close()
		o := transfer(t, g.url(), part, h, content)
		if again := transfer(t, g.url(), part, h, content); again.Generation != o.Generation {
			t.Errorf("%d bytes: finished again as %+v, want %+v", size, again, o)
		}
		for _, from := range []int64{0, int64(size / 3)} {
			for _, fast := range []bool{true, false} {
				got, err := enginetest.Read(t.Context(), s, "o", o.Generation, from, 0, 100_000, fast)
				if err != nil || !bytes.Equal(got, content[from:]) {
					t.Errorf("%d bytes from %d: got %d, %v", size, from, len(got), err)
				}
			}
		}
		listed, _, err := s.List(t.Context(), "", "", 10)
		if err != nil || len(listed) != 1 || listed[0].Size != int64(size) {
			t.Errorf("%d bytes: listed %+v, %v", size, listed, err)
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "o", 0); err != nil {
		t.Error(err)
	}
}
