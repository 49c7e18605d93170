package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/tools/internal/lock"
)

// repository makes a repository with one commit.
func repository(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false",
			"commit", "--quiet", "--allow-empty", "--message", "a commit"},
	} {
		if _, err := git(t.Context(), folder, args...); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestTheTemplatesAddressCanBeClonedAndHasNoPassword(t *testing.T) {
	template := repository(t)
	if got := origin(t.Context(), template); got != "" {
		t.Errorf("without a remote it is %s", got)
	}
	if _, err := git(t.Context(), template, "remote", "add", "origin", "x"); err != nil {
		t.Fatal(err)
	}
	for remote, want := range map[string]string{
		"ssh://git@github.com/acme/x.git":          "ssh://git@github.com/acme/x.git",
		"ssh://git:secret@github.com:2222/x.git":   "ssh://git@github.com:2222/x.git",
		"ssh://github.com/acme/x.git":              "ssh://github.com/acme/x.git",
		"git+ssh://git@github.com/acme/x.git":      "git+ssh://git@github.com/acme/x.git",
		"git@github.com:acme/x.git":                "git@github.com:acme/x.git",
		"https://github.com/acme/x.git":            "https://github.com/acme/x.git",
		"https://token@github.com/acme/x.git":      "https://github.com/acme/x.git",
		"https://user:token@github.com/acme/x.git": "https://github.com/acme/x.git",
		"/srv/git/x.git":                           "",
		"../x":                                     "",
	} {
		if _, err := git(t.Context(), template, "remote", "set-url", "origin", remote); err != nil {
			t.Fatal(err)
		}
		if got := origin(t.Context(), template); got != want {
			t.Errorf("%s becomes %q, expected %q", remote, got, want)
		}
	}
}

func TestAPathIsWhereItsLinksLead(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "real", "again": "link", "broken": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"real": "real", "real/": "real", "link": "real", "link/": "real", "again": "real",
		"link/a/b": "real/a/b", "new": "new", "new/a": "new/a",
	} {
		if got, err := resolve(root + "/" + path); err != nil || got != filepath.Join(root, want) {
			t.Errorf("%s is %s, %v; expected %s", path, got, err, want)
		}
	}
	for _, path := range []string{"broken", "broken/a"} {
		if got, err := resolve(filepath.Join(root, path)); err == nil {
			t.Errorf("%s, below a link to nothing, is %s", path, got)
		}
	}
}

func TestAFolderInTheTemplateIsRefusedAlsoByALink(t *testing.T) {
	template := repository(t)
	if err := os.Mkdir(filepath.Join(template, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(template, link); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][2]string{
		{template, filepath.Join(template, "x")},
		{template, "x"},
		{template, filepath.Join(link, "x")},
		{template, filepath.Join(link, "folder")},
		{link, filepath.Join(template, "x")},
		{link, "x"},
	} {
		if err := run(t.Context(), paths[0], paths[1], "", lock.Lock{}); err == nil ||
			!strings.Contains(err.Error(), "is inside the template") {
			t.Errorf("%s from the template %s: %v", paths[1], paths[0], err)
		}
	}
}

func TestASignalLeavesNothingBehind(t *testing.T) {
	program := filepath.Join(t.TempDir(), "new")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		// The template is this repository. Its archive does not end.
		bin, place := t.TempDir(), t.TempDir()
		started := filepath.Join(bin, "started")
		real, err := exec.LookPath("git")
		if err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\ncase \"$*\" in\n*archive*) : >'" + started + "'; exec sleep 600 ;;\nesac\nexec '" +
			real + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), "sh", "-c", `PATH="$1:$PATH"; shift; exec "$@"`,
			"sh", bin, program, "-template", "../..", "-dir", filepath.Join(place, "orders"),
			"-module", "example.org/orders", "-name", "orders")
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		for there := false; !there; {
			select {
			case err := <-ended:
				t.Fatalf("it ended by itself: %v", err)
			case <-time.After(10 * time.Millisecond):
				_, err := os.Stat(started)
				there = err == nil
			}
		}
		if err := command.Process.Signal(sent); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; command.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: it ended with %v", sent, err)
		}
		if left, err := os.ReadDir(place); err != nil || len(left) > 0 {
			t.Errorf("%v leaves %v, %v", sent, left, err)
		}
	}
}
