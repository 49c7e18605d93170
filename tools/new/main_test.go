package main

import "testing"

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
