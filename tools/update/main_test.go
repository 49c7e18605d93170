package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/tools/internal/lock"
)

// generator stands for the template's tools/new: it copies the files of a folder files/ and
// project.lock.
const generator = `package main

import (
	"flag"
	"os"
	"path/filepath"
)

func main() {
	template, dir, from := flag.String("template", "", ""), flag.String("dir", "", ""), flag.String("lock", "", "")
	flag.Parse()
	if err := os.CopyFS(*dir, os.DirFS(filepath.Join(*template, "files"))); err != nil {
		panic(err)
	}
	answers, err := os.ReadFile(*from)
	if err == nil {
		err = os.WriteFile(filepath.Join(*dir, "project.lock"), answers, 0o644)
	}
	if err != nil {
		panic(err)
	}
}
`

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commit commits all there is, and returns the revision.
func commit(t *testing.T, folder string) string {
	t.Helper()
	run := func(args ...string) string {
		said, err := git(t.Context(), folder, nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	if _, err := os.Stat(filepath.Join(folder, ".git")); err != nil {
		run("init", "--quiet", "--initial-branch=main")
		run("config", "user.name", "test")
		run("config", "user.email", "test@localhost")
		run("config", "commit.gpgsign", "false")
	}
	run("add", "--all")
	run("commit", "--quiet", "--message", "a commit")
	return run("rev-parse", "HEAD")
}

func lines(words ...string) string { return strings.Join(words, "\n") + "\n" }

// start makes a template with two revisions, and a project from the first one.
func start(t *testing.T) (template, project, newer string) {
	t.Helper()
	template, project = t.TempDir(), t.TempDir()
	write(t, template, map[string]string{
		"tools/go.mod":       "module example.org/tools\n\ngo 1.26\n",
		"tools/new/main.go":  generator,
		"files/README.md":    lines("title", "", "a", "b", "c", "", "end"),
		"files/Makefile":     lines("one", "two", "three", "four", "five", "six"),
		"files/mended.go":    lines("package mended", "// wrong"),
		"files/forgotten.go": lines("package forgotten"),
	})
	first := commit(t, template)
	files := map[string]string{}
	for _, name := range []string{"README.md", "Makefile", "mended.go", "forgotten.go"} {
		text, err := os.ReadFile(filepath.Join(template, "files", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	write(t, project, files)
	if err := (lock.Lock{Revision: first, Module: "example.org/x", Name: "x",
		Services: []string{"echo"}}).Write(project); err != nil {
		t.Fatal(err)
	}
	commit(t, project)

	write(t, template, map[string]string{
		"files/README.md": lines("title", "", "a", "b, better", "c", "", "end"),
		"files/mended.go": lines("package mended", "// right"),
		"files/added.go":  lines("package added"),
	})
	if err := os.Remove(filepath.Join(template, "files", "forgotten.go")); err != nil {
		t.Fatal(err)
	}
	return template, project, commit(t, template)
}

func read(t *testing.T, folder, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAProjectThatWasNotEditedBecomesTheNewOne(t *testing.T) {
	template, project, newer := start(t)
	if err := run(t.Context(), project, template, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "Makefile", "mended.go", "added.go"} {
		if got, want := read(t, project, name),
			read(t, filepath.Join(template, "files"), name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(project, "forgotten.go")); err == nil {
		t.Error("what the template has no more is still there")
	}
	if branch, _ := git(t.Context(), project, nil, "branch",
		"--show-current"); branch != "update-"+newer[:12] {
		t.Errorf("it is on the branch %s", branch)
	}
	if l, err := lock.Read(project); err != nil || l.Revision != newer {
		t.Errorf("project.lock has the revision %s, %v; expected %s", l.Revision, err, newer)
	}
	// From there on there is nothing to do.
	if err := run(t.Context(), project, template, newer); err != nil {
		t.Error(err)
	}
}

func TestWhatAProjectHasChangedStays(t *testing.T) {
	template, project, newer := start(t)
	write(t, project, map[string]string{
		"README.md": lines("ours", "", "a", "b", "c", "", "end"),
		"Makefile":  lines("one", "two", "three", "four", "five", "six", "seven"),
		"own.go":    lines("package own"),
	})
	commit(t, project)
	if err := run(t.Context(), project, template, newer); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"README.md": lines("ours", "", "a", "b, better", "c", "", "end"),
		"Makefile":  lines("one", "two", "three", "four", "five", "six", "seven"),
		"own.go":    lines("package own"),
		"mended.go": lines("package mended", "// right"),
	} {
		if got := read(t, project, name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
}

func TestTheSameLinesAreAConflictAndMainIsLeftAlone(t *testing.T) {
	template, project, newer := start(t)
	write(
		t,
		project,
		map[string]string{"README.md": lines("title", "", "a", "b, ours", "c", "", "end")},
	)
	before := commit(t, project)
	if err := run(t.Context(), project, template, newer); err == nil ||
		!strings.Contains(err.Error(), "conflicts") {
		t.Errorf("got %v", err)
	}
	if got := read(t, project, "README.md"); !strings.Contains(got, "<<<<<<<") ||
		!strings.Contains(got, "b, ours") || !strings.Contains(got, "b, better") {
		t.Errorf("README.md is %q", got)
	}
	if main, err := git(t.Context(), project, nil, "rev-parse", "main"); err != nil || main != before {
		t.Errorf("main is at %s, %v; expected %s", main, err, before)
	}
	if conflicts, _ := git(t.Context(), project, nil, "diff", "--name-only",
		"--diff-filter=U"); conflicts != "README.md" {
		t.Errorf("there are conflicts in %q", conflicts)
	}
}

// inLarger makes a folder services/x of a project, in a folder that is to be a larger repository.
func inLarger(t *testing.T, project string) (whole, folder string) {
	t.Helper()
	whole = t.TempDir()
	folder = filepath.Join(whole, "services", "x")
	if err := os.RemoveAll(filepath.Join(project, ".git")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS(project)); err != nil {
		t.Fatal(err)
	}
	return whole, folder
}

func TestAProjectInAFolderOfALargerRepositoryIsUpdatedThere(t *testing.T) {
	template, project, newer := start(t)
	whole, folder := inLarger(t, project)
	write(t, whole, map[string]string{
		"README.md":              "of the whole\n",
		"services/x/own.go":      lines("package own"),
		"services/other/main.go": lines("package main"),
	})
	commit(t, whole)
	if err := run(t.Context(), folder, template, newer); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "mended.go", "added.go"} {
		if got, want := read(t, folder, name),
			read(t, filepath.Join(template, "files"), name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	changed, err := git(t.Context(), whole, nil, "diff", "--name-only", "main", "HEAD", "--",
		".", ":!services/x")
	if err != nil || changed != "" {
		t.Errorf("outside of the project these have changed: %s, %v", changed, err)
	}
}

func TestAMergeThatFailsLeavesNoBranch(t *testing.T) {
	template, project, newer := start(t)
	hook := filepath.Join(project, ".git", "hooks", "prepare-commit-msg")
	write(t, project, map[string]string{".git/hooks/prepare-commit-msg": "#!/bin/sh\nexit 1\n"})
	if err := os.Chmod(hook, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), project, template, newer); err == nil {
		t.Fatal("the hook has not refused it")
	}
	state, err := git(t.Context(), project, nil, "status", "--short", "--branch")
	if err != nil || state != "## main" {
		t.Errorf("the project is at %q, %v", state, err)
	}
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), project, template, newer); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

func TestTheTemplateHasItsLinesAsTheyAreCommitted(t *testing.T) {
	template, project, newer := start(t)
	write(t, project, map[string]string{".git/user": "[core]\n\tautocrlf = true\n"})
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(project, ".git", "user"))
	// What is made is taken as it is, so that other lines would be seen.
	if _, err := git(t.Context(), project, nil, "config", "core.autocrlf", "false"); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), project, template, newer); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "Makefile", "mended.go", "added.go"} {
		if got, err := git(t.Context(), template, nil, "show", newer+":files/"+name); err != nil ||
			read(t, project, name) != got+"\n" {
			t.Errorf("%s is %q, expected %q, %v", name, read(t, project, name), got, err)
		}
	}
}

// leave returns from the branch of an update as the printed commands do.
func leave(t *testing.T, project, newer string) {
	t.Helper()
	for _, args := range [][]string{{"switch", "-"}, {"branch", "-D", "update-" + newer[:12]}} {
		if _, err := git(t.Context(), project, nil, args...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheRevisionInTheLockMayBeATagOrShort(t *testing.T) {
	template, project, newer := start(t)
	l, err := lock.Read(project)
	if err != nil {
		t.Fatal(err)
	}
	first := l.Revision
	if _, err := git(t.Context(), template, nil, "tag", "v1", first); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v1", first[:9]} {
		l.Revision = name
		if err := l.Write(project); err != nil {
			t.Fatal(err)
		}
		commit(t, project)
		if err := run(t.Context(), project, template, first); err != nil {
			t.Errorf("from %s to the same revision: %v", name, err)
		}
		if err := run(t.Context(), project, template, newer); err != nil {
			t.Fatalf("from %s: %v", name, err)
		}
		if l, err := lock.Read(project); err != nil || l.Revision != newer {
			t.Errorf("project.lock has the revision %s, %v; expected %s", l.Revision, err, newer)
		}
		leave(t, project, newer)
	}
}

func TestAProjectInASparseCheckoutIsUpdated(t *testing.T) {
	template, project, _ := start(t)
	whole, folder := inLarger(t, project)
	write(t, whole, map[string]string{"services/other/main.go": lines("package main")})
	commit(t, whole)
	if _, err := git(t.Context(), whole, nil, "sparse-checkout", "set", "--sparse-index",
		"services/x"); err != nil {
		t.Fatal(err)
	}
	write(t, template, map[string]string{"files/docs/more.md": lines("more")})
	if err := run(t.Context(), folder, template, commit(t, template)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, folder, "docs/more.md"); got != lines("more") {
		t.Errorf("docs/more.md is %q", got)
	}
	if _, err := os.Stat(filepath.Join(whole, "services", "other")); err == nil {
		t.Error("the checkout is not sparse any more")
	}
}

func TestABranchOfAnEarlierUpdateIsFoundBeforeTheProjectsAreMade(t *testing.T) {
	template, project, _ := start(t)
	// A generator that does not compile, with another error.
	write(t, template, map[string]string{"tools/new/main.go": "package main\n\nbroken\n"})
	branch := "update-" + commit(t, template)[:12]
	if _, err := git(t.Context(), project, nil, "branch", branch); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), project, template, ""); err == nil ||
		!strings.Contains(err.Error(), "earlier update") ||
		!strings.Contains(err.Error(), "git branch -D "+branch) {
		t.Errorf("got %v", err)
	}
}

func TestAnUpdateWithConflictsCanBeGivenUpAndBegunAgain(t *testing.T) {
	template, project, newer := start(t)
	write(
		t,
		project,
		map[string]string{"README.md": lines("title", "", "a", "b, ours", "c", "", "end")},
	)
	commit(t, project)
	for range 2 {
		if err := run(t.Context(), project, template, newer); err == nil ||
			!strings.Contains(err.Error(), "conflicts") {
			t.Fatalf("got %v", err)
		}
		if _, err := git(t.Context(), project, nil, "cherry-pick", "--abort"); err != nil {
			t.Fatal(err)
		}
		leave(t, project, newer)
		state, err := git(t.Context(), project, nil, "status", "--short", "--branch")
		if err != nil || state != "## main" {
			t.Errorf("the project is at %q, %v", state, err)
		}
	}
}

// await waits for a file that something makes which must not have ended before.
func await(t *testing.T, file string, ended <-chan error) {
	t.Helper()
	for {
		select {
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-time.After(10 * time.Millisecond):
			if _, err := os.Stat(file); err == nil {
				return
			}
		}
	}
}

func TestAMergeThatIsInterruptedIsTakenBackIfItFails(t *testing.T) {
	template, project, newer := start(t)
	signs := t.TempDir()
	begun, end := filepath.Join(signs, "begun"), filepath.Join(signs, "end")
	hook := ".git/hooks/prepare-commit-msg"
	write(t, project, map[string]string{
		hook: "#!/bin/sh\n: >'" + begun + "'\nuntil [ -e '" + end + "' ]; do sleep 0.01; done\nexit 1\n",
	})
	if err := os.Chmod(filepath.Join(project, hook), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, project, template, newer) }()
	await(t, begun, ended)
	cancel()
	write(t, signs, map[string]string{"end": ""})
	if err := <-ended; err == nil {
		t.Error("the hook has not refused it")
	}
	state, err := git(t.Context(), project, nil, "status", "--short", "--branch")
	if err != nil || state != "## main" {
		t.Errorf("the project is at %q, %v", state, err)
	}
	if branches, err := git(t.Context(), project, nil, "branch"); err != nil || branches != "* main" {
		t.Errorf("there are branches %s, %v", branches, err)
	}
}

func TestConflictsInGeneratedFilesAreLeftToMakeGenerate(t *testing.T) {
	for _, also := range []string{"", "README.md"} {
		template, project, _ := start(t)
		// Both sides have changed them; one is not in the project any more, one is new in both.
		write(t, template, map[string]string{
			"files/gen/contract.binpb":          "\x00template",
			"files/gen/a/removed.pb.go":         lines("package a"),
			"files/variables.go":                lines("package x // template"),
			"files/charts/x/values.schema.json": lines("{}"),
		})
		first := commit(t, template)
		if err := run(t.Context(), project, template, first); err != nil {
			t.Fatal(err)
		}
		ours := map[string]string{
			"gen/contract.binpb":          "\x00ours",
			"gen/a/new.pb.go":             lines("package a // ours"),
			"variables.go":                lines("package x // ours"),
			"charts/x/values.schema.json": lines(`{"ours": 1}`),
		}
		write(t, project, ours)
		if also != "" {
			write(t, project, map[string]string{also: lines("ours")})
		}
		if err := os.Remove(filepath.Join(project, "gen/a/removed.pb.go")); err != nil {
			t.Fatal(err)
		}
		commit(t, project)
		write(t, template, map[string]string{
			"files/gen/contract.binpb":          "\x00newer",
			"files/gen/a/new.pb.go":             lines("package a // newer"),
			"files/gen/a/removed.pb.go":         lines("package a // newer"),
			"files/variables.go":                lines("package x // newer"),
			"files/charts/x/values.schema.json": lines(`{"newer": 1}`),
			"files/README.md":                   lines("newer"),
		})
		newer := commit(t, template)
		err := run(t.Context(), project, template, "")
		unmerged, diff := git(t.Context(), project, nil, "diff", "--name-only", "--diff-filter=U")
		if diff != nil || unmerged != also {
			t.Errorf("there are conflicts in %q, %v; expected %q", unmerged, diff, also)
		}
		if also != "" {
			if err == nil || !strings.Contains(err.Error(), "conflicts") {
				t.Errorf("with a conflict in %s: %v", also, err)
			}
		} else if l, locked := lock.Read(project); err != nil || locked != nil || l.Revision != newer {
			t.Errorf("project.lock has the revision %s, %v, %v; expected %s", l.Revision, err, locked, newer)
		}
		for name, want := range ours {
			if got := read(t, project, name); got != want {
				t.Errorf("%s is %q, expected %q", name, got, want)
			}
		}
		if _, err := os.Stat(filepath.Join(project, "gen/a/removed.pb.go")); err == nil {
			t.Error("a generated file that the project has no more is back")
		}
		if changed, err := git(t.Context(), project, nil, "status", "--porcelain"); err != nil ||
			also == "" && changed != "" {
			t.Errorf("not committed are %s, %v", changed, err)
		}
	}
}

func TestASignalEndsTheGeneratorAndLeavesNothingBehind(t *testing.T) {
	template, project, _ := start(t)
	signs := t.TempDir()
	// A generator that does not end, and has its own child.
	write(t, template, map[string]string{"tools/new/main.go": `package main

import (
	"os"
	"os/exec"
)

func main() {
	child := exec.Command("sleep", "600")
	child.Stdout = os.Stdout
	if child.Start() == nil && os.WriteFile(os.Getenv("BEGUN"), nil, 0o644) == nil {
		_ = child.Wait()
	}
}
`})
	first := commit(t, template)
	l, err := lock.Read(project)
	if err != nil {
		t.Fatal(err)
	}
	l.Revision = first
	if err := l.Write(project); err != nil {
		t.Fatal(err)
	}
	commit(t, project)
	write(t, template, map[string]string{"files/more.md": lines("more")})
	commit(t, template)
	program := filepath.Join(t.TempDir(), "update")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		scratch, begun := t.TempDir(), filepath.Join(signs, sent.String())
		command := exec.CommandContext(t.Context(), program, "-project", project, "-from", template)
		command.Env = append(command.Environ(), "TMPDIR="+scratch, "BEGUN="+begun)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		await(t, begun, ended)
		if err := command.Process.Signal(sent); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; command.ProcessState.ExitCode() != 1 {
			t.Errorf("%v: it ended with %v", sent, err)
		}
		if left, err := filepath.Glob(filepath.Join(scratch, "update-*")); err != nil || len(left) > 0 {
			t.Errorf("%v leaves %v, %v", sent, left, err)
		}
	}
}

func TestWhatCannotBeUpdatedIsRefused(t *testing.T) {
	template, project, newer := start(t)
	for why, args := range map[string][2]string{
		"no template":                  {"", ""},
		"a template that there is not": {filepath.Join(template, "nowhere"), ""},
		"a revision that there is not": {template, "v9"},
		"an option as a revision":      {template, "--all"},
		"another repository":           {project, ""},
	} {
		if err := run(t.Context(), project, args[0], args[1]); err == nil {
			t.Errorf("%s is not refused", why)
		}
	}
	write(t, project, map[string]string{"README.md": "edited"})
	if err := run(t.Context(), project, template, newer); err == nil ||
		!strings.Contains(err.Error(), "commit") {
		t.Errorf("changes that are not committed: %v", err)
	}
	if branches, _ := git(t.Context(), project, nil, "branch"); strings.Contains(branches, "update-") {
		t.Errorf("there are branches %s", branches)
	}
	if err := run(t.Context(), t.TempDir(), template, ""); err == nil ||
		!strings.Contains(err.Error(), lock.Name) {
		t.Errorf("a folder that is no project: %v", err)
	}
}
