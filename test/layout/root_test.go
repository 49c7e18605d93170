package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRoot wants the entries of the root to be those that the map in README.md names.
func TestRoot(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	// What git ignores is left out.
	listed := output(t, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	var paths []string
	for path := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		// What was deleted since the last commit is still listed.
		if _, err := os.Lstat(filepath.Join(repository, path)); err == nil {
			paths = append(paths, path)
		}
	}
	for _, problem := range compareRoot(paths, mapped(string(readme))) {
		t.Error(problem)
	}
}

// mapped returns the names that the map in README.md gives to entries of the root. The map is the
// first block below its heading. A line that is not indented begins with one name or several; two
// spaces separate them from their description.
func mapped(readme string) (names []string) {
	_, section, _ := strings.Cut(readme, "\n## The map\n")
	_, block, _ := strings.Cut(section, "\n```\n")
	block, _, _ = strings.Cut(block, "\n```\n")
	for line := range strings.SplitSeq(block, "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		before, _, _ := strings.Cut(line, "  ")
		names = append(names, strings.Fields(before)...)
	}
	return names
}

// compareRoot says what is only in the tree and what is only on the map. Hidden entries are not on
// the map: they configure tools, which look for them by name.
func compareRoot(paths, mapped []string) (problems []string) {
	var entries []string
	for _, path := range paths {
		name, _, folder := strings.Cut(path, "/")
		if folder {
			name += "/"
		}
		if !strings.HasPrefix(name, ".") && !slices.Contains(entries, name) {
			entries = append(entries, name)
		}
	}
	for _, name := range entries {
		if !slices.Contains(mapped, name) {
			problems = append(
				problems,
				fmt.Sprintf(
					"%s is at the root, but not on the map in README.md: delete it, move it, or add it to the map",
					name,
				),
			)
		}
	}
	for _, name := range mapped {
		if !slices.Contains(entries, name) {
			problems = append(
				problems,
				fmt.Sprintf("%s is on the map in README.md, but not at the root: remove it from the map", name),
			)
		}
	}
	return problems
}

func TestRootFindsWhatDiffers(t *testing.T) {
	const readme = "# A\n\n## The map\n\nSome words.\n\n```\na/             a folder\n  b/           another one below it\nc.txt d.txt    two files\n```\n\n```\ne/\n```\n"
	names := mapped(readme)
	if want := []string{"a/", "c.txt", "d.txt"}; !slices.Equal(names, want) {
		t.Fatalf("the map names %q, expected %q", names, want)
	}
	for _, tt := range []struct {
		name     string
		paths    []string
		problems []string // what each begins with
	}{
		{"the same", []string{".ci/run", ".gitignore", "a/b/x", "a/y", "c.txt", "d.txt"}, nil},
		{"a stray file", []string{"5e-06", "a/y", "c.txt", "d.txt"}, []string{"5e-06 is at the root"}},
		{"a missing file", []string{"a/y", "c.txt"}, []string{"d.txt is on the map"}},
		{"a file in place of a folder", []string{"a", "c.txt", "d.txt"}, []string{"a is at the root", "a/ is on the map"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := compareRoot(tt.paths, names)
			if !slices.EqualFunc(got, tt.problems, strings.HasPrefix) {
				t.Errorf("problems are %q, expected %q", got, tt.problems)
			}
		})
	}
}
