package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
