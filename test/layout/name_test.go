package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/quartet"
)

// TestNoProductNameInInternal wants internal/ to be told the product's name, so that renaming the
// product leaves it alone.
func TestNoProductNameInInternal(t *testing.T) {
	module := strings.TrimSpace(string(output(t, "go", "list", "-m")))
	for _, file := range files(t, "internal") {
		text, err := os.ReadFile(filepath.Join(repository, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range linesWith(string(text), quartet.Identity.Name, module) {
			t.Errorf("%s:%s", file, line)
		}
	}
}

// linesWith returns the lines that contain a name in any case, except as part of import paths below
// module. Each begins with its number.
func linesWith(text, name, module string) (found []string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		rest := strings.ReplaceAll(line, module+"/", "")
		if strings.Contains(strings.ToLower(rest), strings.ToLower(name)) {
			found = append(found, fmt.Sprintf("%d: %s", number, strings.TrimSpace(line)))
		}
	}
	return found
}

func TestLinesWithFindsTheName(t *testing.T) {
	const text = "import \"example.com/acme/internal/rpc\"\n\tx := \"ACME_HOST\"\n// Nothing.\nreplace example.com/acme => Acme\n"
	got := linesWith(text, "acme", "example.com/acme")
	want := []string{`2: x := "ACME_HOST"`, "4: replace example.com/acme => Acme"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, expected %q", got, want)
	}
}
