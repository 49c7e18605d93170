package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkout is a copy of the repository that a test may edit.
type checkout string

// copyRepository copies what git knows or would take, as it is now.
func copyRepository(t *testing.T) checkout {
	t.Helper()
	to := t.TempDir()
	listed := run(t, "git", "-C", repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
	for name := range strings.SplitSeq(strings.TrimSuffix(listed, "\x00"), "\x00") {
		err := copyFile(filepath.Join(to, name), filepath.Join(repository, name))
		// It may have been deleted since the last commit.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return checkout(to)
}

func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}

// edit replaces a text in a file, where it has to be once.
func (c checkout) edit(t *testing.T, name, old, replacement string) {
	t.Helper()
	file := filepath.Join(string(c), name)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(string(text), old); count != 1 {
		t.Fatalf("%s has %s %d times, and this test wants to edit it where it is once", name, old, count)
	}
	changed := strings.Replace(string(text), old, replacement, 1)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}
