package object_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process/processtest"
)

// The tests in this file run both programs as they are shipped.

// inFolder lists a folder, and wants nothing else in it than names.
func inFolder(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, entry := range entries {
		there = append(there, entry.Name())
	}
	if strings.Join(there, " ") != strings.Join(names, " ") {
		t.Errorf("in the folder are %q, expected %q", there, names)
	}
}

func wantContent(t *testing.T, path string, content []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s has %d bytes, %v, expected %d others", path, len(got), err, len(content))
	}
}

// interruptedDownload leaves the part of a download that was ended by a signal in the middle, and
// returns its path and what was said.
func interruptedDownload(
	t *testing.T, address, name, folder string, by syscall.Signal,
) (part, output string) {
	t.Helper()
	proxy := clienttest.NewProxy(t, address)
	download := command(t, proxy.Address, "download", name, folder)
	var said bytes.Buffer
	download.Stdout, download.Stderr = &said, &said
	started, ended := make(chan struct{}), make(chan struct{})
	proxy.HoldAfter(8<<20, func() {
		<-started
		if err := download.Process.Signal(by); err != nil {
			t.Error(err)
		}
		<-ended
	})
	if err := download.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	_ = download.Wait() // The caller looks at what came of it.
	close(ended)
	parts, err := filepath.Glob(filepath.Join(folder, "."+name+".*.part"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("after %v there are the parts %q, %v\n%s", by, parts, err, &said)
	}
	return parts[0], said.String()
}

func TestAnInterruptedDownloadIsContinued(t *testing.T) {
	server := processtest.Start(t)
	content := random(32 << 20)
	run(t, 0, server.Address, "upload", file(t, content), "big")
	for _, by := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP,
		syscall.SIGKILL} {
		t.Run(by.String(), func(t *testing.T) {
			folder := t.TempDir()
			_, output := interruptedDownload(t, server.Address, "big", folder, by)
			if by != syscall.SIGKILL {
				want(t, output, "to continue, add: --continue")
			}
			output = run(t, 0, server.Address, "download", "big", folder, "--continue")
			want(t, output, "downloaded")
			wantContent(t, filepath.Join(folder, "big"), content)
			inFolder(t, folder, "big")
		})
	}
	t.Run("what is there already is not fetched again, and verified", func(t *testing.T) {
		folder := t.TempDir()
		part, _ := interruptedDownload(t, server.Address, "big", folder, syscall.SIGINT)
		damaged, err := os.OpenFile(part, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = damaged.WriteAt([]byte("damage"), 100)
		if err := errors.Join(err, damaged.Close()); err != nil {
			t.Fatal(err)
		}
		want(t, run(t, 5, server.Address, "download", "big", folder, "--continue"), "checksum mismatch")
		inFolder(t, folder)
		run(t, 0, server.Address, "download", "big", folder, "--continue")
		wantContent(t, filepath.Join(folder, "big"), content)
	})
	t.Run("what was left behind goes when a download begins anew", func(t *testing.T) {
		folder := t.TempDir()
		interruptedDownload(t, server.Address, "big", folder, syscall.SIGKILL)
		if err := os.WriteFile(filepath.Join(folder, ".big.17.part"), []byte("of an earlier generation"),
			0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, ".big.er.17.part"), []byte("of another file"),
			0o600); err != nil {
			t.Fatal(err)
		}
		run(t, 0, server.Address, "download", "big", folder)
		wantContent(t, filepath.Join(folder, "big"), content)
		inFolder(t, folder, ".big.er.17.part", "big")
	})
	t.Run("another object of that name is begun anew", func(t *testing.T) {
		folder := t.TempDir()
		run(t, 0, server.Address, "upload", file(t, content), "other")
		interruptedDownload(t, server.Address, "other", folder, syscall.SIGINT)
		run(t, 0, server.Address, "upload", file(t, []byte("short")), "other")
		want(t, run(t, 0, server.Address, "download", "other", folder, "--continue"),
			"has changed since: beginning anew")
		wantContent(t, filepath.Join(folder, "other"), []byte("short"))
		inFolder(t, folder, "other")
		// It was interrupted before its first byte.
		if err := os.WriteFile(filepath.Join(folder, ".other.17.part"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, run(t, 0, server.Address, "download", "other", folder, "--continue"),
			"has changed since: beginning anew")
		inFolder(t, folder, "other")
	})
	run(t, 2, server.Address, "download", "big", "-", "--continue")
}

func TestTwoDownloadsToOnePlaceDoNotDisturbEachOther(t *testing.T) {
	server := processtest.Start(t)
	content, folder := random(32<<20), t.TempDir()
	run(t, 0, server.Address, "upload", file(t, content), "big")
	proxy := clienttest.NewProxy(t, server.Address)
	proxy.HoldAfter(8<<20, func() {
		for _, more := range [][]string{nil, {"--continue"}} {
			want(t, run(t, 1, server.Address, append([]string{"download", "big", folder}, more...)...),
				"another process is downloading it there")
		}
	})
	run(t, 0, proxy.Address, "download", "big", folder)
	wantContent(t, filepath.Join(folder, "big"), content)
	inFolder(t, folder, "big")
}

// shared makes a folder that other users can reach.
func shared(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "quartet-shared-") //nolint:usetesting // Other users cannot reach a folder of t.TempDir.
	if err == nil {
		err = os.Chmod(folder, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// unprivileged makes a command run as a user that permissions bind.
func unprivileged(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		return c
	}
	binary := filepath.Join(shared(t), "client")
	if err := os.Link(c.Path, binary); err != nil {
		t.Fatal(err)
	}
	c.Path = binary
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return c
}

func TestWhereADownloadIsWrittenIsDecidedBeforeItsFirstByte(t *testing.T) {
	server := processtest.Start(t)
	content := []byte("content")
	run(t, 0, server.Address, "upload", file(t, content), "x")
	t.Run("a file that is a mount is overwritten", func(t *testing.T) {
		folder, mounted := t.TempDir(), file(t, []byte("the old content, which is longer"))
		place := filepath.Join(folder, "x")
		if err := os.WriteFile(place, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(mounted, place, "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("a mount needs privileges: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(place, 0) })
		run(t, 3, server.Address, "download", "absent", place)
		wantContent(t, mounted, []byte("the old content, which is longer"))
		want(t, run(t, 0, server.Address, "download", "x", place), "it is a mount of its own")
		wantContent(t, mounted, content)
		inFolder(t, folder, "x")
	})
	t.Run("a file in a folder without permission is overwritten", func(t *testing.T) {
		folder := filepath.Join(shared(t), "unwritable")
		place := filepath.Join(folder, "x")
		if err := errors.Join(os.Mkdir(folder, 0o755),
			os.WriteFile(place, []byte("old, and longer"), 0o666), os.Chmod(place, 0o666),
			os.Chmod(folder, 0o555)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(folder, 0o755) }) // So that it can be removed.
		want(t, finish(t, 0, unprivileged(t, command(t, server.Address, "download", "x", place))),
			"cannot be replaced")
		wantContent(t, place, content)
		output := finish(t, 1, unprivileged(t, command(t, server.Address, "download", "x",
			filepath.Join(folder, "new"))))
		want(t, output, "permission denied")
	})
	t.Run("a folder that cannot be read is written", func(t *testing.T) {
		folder := filepath.Join(shared(t), "unreadable")
		if err := errors.Join(os.Mkdir(folder, 0o755), os.Chmod(folder, 0o333)); err != nil {
			t.Fatal(err)
		}
		want(t, finish(t, 0, unprivileged(t, command(t, server.Address, "download", "x",
			filepath.Join(folder, "x")))), "after a power failure")
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		inFolder(t, folder, "x")
	})
	t.Run("a link that leads nowhere yet is followed", func(t *testing.T) {
		folder := t.TempDir()
		link := filepath.Join(folder, "link")
		if err := errors.Join(os.Mkdir(filepath.Join(folder, "there"), 0o700),
			os.Symlink("there/x", link)); err != nil {
			t.Fatal(err)
		}
		run(t, 0, server.Address, "download", "x", link)
		wantContent(t, filepath.Join(folder, "there", "x"), content)
		if to, err := os.Readlink(link); err != nil || to != "there/x" {
			t.Errorf("the link is %q, %v", to, err)
		}
		if err := errors.Join(os.Remove(link), os.Symlink("link", link)); err != nil {
			t.Fatal(err)
		}
		want(t, run(t, 1, server.Address, "download", "x", link), "links")
	})
	t.Run("names may be as long as the file system has them", func(t *testing.T) {
		folder := t.TempDir()
		for _, length := range []int{200, 230, 240, 241, 255} {
			path := filepath.Join(folder, strings.Repeat("n", length))
			run(t, 0, server.Address, "download", "x", path)
			wantContent(t, path, content)
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
		inFolder(t, folder)
		run(t, 1, server.Address, "download", "x", filepath.Join(folder, strings.Repeat("n", 256)))
	})
	t.Run("hard links are told of", func(t *testing.T) {
		path := file(t, []byte("old"))
		if err := os.Link(path, path+"2"); err != nil {
			t.Fatal(err)
		}
		want(t, run(t, 0, server.Address, "download", "x", path), "hard links keep the old one")
		wantContent(t, path+"2", []byte("old"))
	})
	t.Run("a folder that is not there is told before the server is asked", func(t *testing.T) {
		run(t, 1, "127.0.0.1:1", "download", "x", filepath.Join(t.TempDir(), "absent", "x"))
	})
}
