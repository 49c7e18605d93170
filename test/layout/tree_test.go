package layout

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is the root of the checkout, seen from where these tests run.
const repository = "../.."

// output runs a command in the root and returns its standard output.
func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	// The cache of test results does not see what another process reads. It sees which folders a
	// test has listed, and runs the test again when a file in one of them has changed.
	_ = files(t, ".")
	var stderr strings.Builder
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir, command.Stderr = repository, &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// files are those below a folder of the repository, without what is hidden, as paths from the root
// with slashes.
func files(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(
		filepath.Join(repository, folder),
		func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				if strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
					return filepath.SkipDir
				}
				return nil
			}
			relative, err := filepath.Rel(repository, name)
			files = append(files, filepath.ToSlash(relative))
			return err
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return files
}
