package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnEditConcernsOnlyTheTargetsThatItChanges(t *testing.T) {
	for files, want := range map[string]string{
		"server/a/b.go":                    "image load release",
		"identity.go go.mod Dockerfile":    "image load release",
		"proto/shop/v1/a.proto":            "generate",
		"charts/quartet/values.yaml":       "release",
		"charts/platform/values.yaml":      "platform",
		"charts/platform/a internal/b.go":  "image load platform release",
		"proto/a.proto gen/a.pb.go":        "generate image load release",
		"README.md docs/a.md test/e2e/run": "",
		"servers/a.go":                     "",
	} {
		if got := strings.Join(targets(strings.Fields(files)), " "); got != want {
			t.Errorf("%s: %q, want %q", files, got, want)
		}
	}
}

// await returns the files that concern a target, in order and each once, of as many edits as it
// takes until all that are wanted are among them: a watcher that is not run for a while takes one
// edit for several. What was seen before is left out.
func await(
	t *testing.T, edits <-chan edit, want []string, before map[string]bool,
) (files []string) {
	t.Helper()
	late := time.After(20 * time.Second)
	missing := func(name string) bool { return !slices.Contains(files, name) }
	for slices.ContainsFunc(want, missing) {
		select {
		case e := <-edits:
			for _, name := range e.files {
				if !before[name] && missing(name) && len(targets([]string{name})) > 0 {
					files = append(files, name)
				}
			}
		case <-late:
			t.Fatalf("after 20 s the edits are of %q, want %q", files, want)
		}
	}
	slices.Sort(files)
	for _, name := range files {
		before[name] = true
	}
	return files
}

func write(t *testing.T, elements ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elements...), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEditsAreSeenHoweverTheyAreMade(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "server", "b"), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"written.go", "renamed.go", "deleted.go", "mode.go"} {
		write(t, root, "server", name)
	}
	write(t, elsewhere, "new.go")
	edits, err := watch(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]bool{}
	for _, c := range []struct {
		name string
		make func() error
		want []string // in no other case
	}{
		{"written in place", func() error {
			write(t, root, "server", "written.go")
			return nil
		}, []string{"server/written.go"}},
		{"renamed over", func() error {
			write(t, root, "server", ".renamed.go.123")
			return os.Rename(filepath.Join(root, "server", ".renamed.go.123"), filepath.Join(root, "server", "renamed.go"))
		}, []string{"server/renamed.go"}},
		{"in a new folder", func() error {
			if err := os.MkdirAll(filepath.Join(root, "server", "a", "b"), 0o750); err != nil {
				return err
			}
			write(t, root, "server", "a", "b", "c.go")
			return nil
		}, []string{"server/a/b/c.go"}},
		{"in a folder that was new before", func() error {
			write(t, root, "server", "a", "b", "d.go")
			return nil
		}, []string{"server/a/b/d.go"}},
		{"a folder moved here", func() error {
			return os.Rename(elsewhere, filepath.Join(root, "client"))
		}, []string{"client/new.go"}},
		{"deleted", func() error { return os.Remove(filepath.Join(root, "server", "deleted.go")) }, []string{"server/deleted.go"}},
		{"ignored, but for two", func() error {
			// What is wanted comes last.
			err := os.Chmod(filepath.Join(root, "server", "mode.go"), 0o400)
			write(t, root, "README.md")
			for _, name := range []string{"main_test.go", "main.go~", ".main.go.swp", "#main.go#", "README.md"} {
				write(t, root, "client", name)
			}
			write(t, root, "go.mod")
			return err
		}, []string{"client/README.md", "go.mod"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.make(); err != nil {
				t.Fatal(err)
			}
			if got := await(t, edits, c.want, before); !slices.Equal(got, c.want) {
				t.Errorf("the edit is of %q, want %q", got, c.want)
			}
		})
	}
}

// played runs a loop until it has answered all edits, each of which comes when the one before has
// rolled out or failed.
func played(
	t *testing.T,
	fails func(targets string) bool,
	edits ...edit,
) (made []string, rolledOut int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := make(chan edit)
	answered := func() {
		if len(edits) == 0 {
			cancel()
			return
		}
		e := edits[0]
		edits = edits[1:]
		go func() { source <- e }()
	}
	l := loop{
		edits: source,
		make: func(_ context.Context, targets []string) error {
			made = append(made, strings.Join(targets, " "))
			if fails(made[len(made)-1]) {
				answered()
				return errors.New("exit status 2")
			}
			return nil
		},
		deployed:  func() {},
		rollout:   func(context.Context) error { return nil },
		rolledOut: func() { rolledOut++; answered() },
	}
	if err := l.run(ctx); err != nil {
		t.Fatal(err)
	}
	return made, rolledOut
}

func TestWhatFailedIsTriedAgainWithTheNextEdit(t *testing.T) {
	failed := 0
	made, rolledOut := played(t, func(targets string) bool {
		failed++
		return failed == 2 || failed == 3
	}, edit{files: []string{"charts/platform/a"}}, edit{files: []string{"server/a.go"}}, edit{files: []string{"server/a.go"}}, edit{lost: true})
	want := []string{
		"up",
		"platform",
		"image load platform release",
		"image load platform release",
		"up",
	}
	if !slices.Equal(made, want) || rolledOut != 3 {
		t.Errorf("it made %q and rolled out %d times, want %q", made, rolledOut, want)
	}
}

func TestTheStartIsTriedAgainAsAWhole(t *testing.T) {
	failed := 0
	made, _ := played(
		t,
		func(string) bool { failed++; return failed == 1 },
		edit{files: []string{"server/a.go", "proto/a.proto"}},
	)
	if !slices.Equal(made, []string{"up", "generate up"}) {
		t.Errorf("it made %q", made)
	}
}

func TestAnEditEndsTheWaitForPodsThatAreNeverReady(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	source := make(chan edit)
	rounds := 0
	l := loop{
		edits:    source,
		make:     func(context.Context, []string) error { rounds++; return nil },
		deployed: func() {},
		rollout: func(ctx context.Context) error {
			if rounds > 1 {
				return nil
			}
			source <- edit{files: []string{"server/a.go"}}
			<-ctx.Done()
			return ctx.Err()
		},
		rolledOut: cancel,
	}
	if err := l.run(ctx); err != nil || rounds != 2 {
		t.Errorf("%v after %d rounds, want 2", err, rounds)
	}
}
