package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// byHand are the targets that neither CI nor a test runs, with the reason.
var byHand = map[string]string{
	"check":          "a faster choice of make lint and make test, which CI runs",
	"e2e-disruption": "takes longer than CI may",
	"fuzz":           "has no end; a job of its own on GitHub runs it for a minute each",
	"vulncheck":      "fails by what others find, not by a change; a job of its own on GitHub runs it",
	"reproducible":   "compiles everything twice; releases are built the same way",
	"sbom":           "the workflow of releases runs it",
	"breaking":       "compares with a branch, which CI does not have",
	"browser":        "make e2e runs the same program",
	"help":           "prints this file",
	"up":             "the targets that it consists of are run by make e2e and make dev",
	"attack":         "takes a quarter of an hour; tests and make e2e run the same program",
	"bench":          "takes minutes and is never wrong; make test-tools runs the same program for less long",
	"fmt":            "changes files; make lint checks what it would change",
	"charts":         "is a part of make lint",
	"clean":          "removes what was built",
}

// runners are the files that run targets.
var runners = []string{
	".ci/run",
	"test/template/run",
	"test/e2e/run",
	"test/e2e/devloop_test.go",
	"tools/internal/project/render.go",
}

var (
	target  = regexp.MustCompile(`(?m)^([a-z0-9-]+):(.*)## `)
	command = regexp.MustCompile("(?m)(?:^|`|\\$ )make((?: +(?:[A-Z]+=[^\\s`]*|[a-z0-9-]+))+)")
	quoted  = regexp.MustCompile(`'[^'\n]*'`)
	comment = regexp.MustCompile(`(?m)^\s*(#|//).*`)
	cluster = regexp.MustCompile(`^(kubectl|helm|skaffold) `)
)

// TestMakeTargets wants each target that a document names to be there, and CI to run it unless
// there is a reason.
func TestMakeTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	var all []string
	for _, match := range target.FindAllStringSubmatch(makefile, -1) {
		all = append(all, match[1])
	}
	for _, document := range documents(t) {
		for _, name := range targets(read(t, document)) {
			if !slices.Contains(all, name) {
				t.Errorf("%s: there is no make %s", document, name)
			}
		}
	}
	// template:only quartet
	for _, problem := range unrun(all, func(name string) string { return read(t, name) }) {
		t.Error(problem)
	}
	// template:end
}

// targets are those of the make commands in a text.
func targets(text string) (names []string) {
	for _, match := range command.FindAllStringSubmatch(quoted.ReplaceAllString(text, ""), -1) {
		for word := range strings.FieldsSeq(match[1]) {
			if !strings.Contains(word, "=") {
				names = append(names, word)
			}
		}
	}
	return names
}

// unrun says which targets no runner mentions and have no reason, and which reasons are not needed.
func unrun(all []string, read func(string) string) (problems []string) {
	for _, name := range all {
		mentioned := regexp.MustCompile(`(make|unchanged)"?,? .*\b` + name + `\b`)
		run := slices.ContainsFunc(runners, func(runner string) bool {
			return mentioned.MatchString(comment.ReplaceAllString(read(runner), ""))
		})
		switch reason := byHand[name]; {
		case !run && reason == "" && !prerequisite(name, read("Makefile")):
			problems = append(problems, fmt.Sprintf("neither CI nor a test runs make %s", name))
		case run && reason != "":
			problems = append(problems, fmt.Sprintf("make %s is run, and needs no reason not to be", name))
		}
	}
	return problems
}

// prerequisite tells whether another target needs this one.
func prerequisite(name, makefile string) bool {
	for _, match := range target.FindAllStringSubmatch(makefile, -1) {
		if slices.Contains(strings.Fields(match[2]), name) {
			return true
		}
	}
	return false
}

// TestCommandsOfAClusterAreMarked wants a document that shows commands of a cluster to say before
// them that they need one.
func TestCommandsOfAClusterAreMarked(t *testing.T) {
	for _, document := range documents(t) {
		if line := unmarked(read(t, document)); line != "" {
			t.Errorf("%s: nothing before %q says that it needs a cluster", document, line)
		}
	}
}

// unmarked is the first command of a cluster before which no cluster is mentioned.
func unmarked(text string) string {
	marked := false
	for line := range strings.Lines(text) {
		if cluster.MatchString(line) && !marked {
			return strings.TrimSpace(line)
		}
		marked = marked || strings.Contains(strings.ToLower(line), "cluster")
	}
	return ""
}

func TestCommandsAreFound(t *testing.T) {
	got := targets(
		"`make demo ONCE=1`, `make lint test`\n```\nmake new DIR=../x NAME='a b' extra   # make none\n```\nto make sure",
	)
	if want := []string{"demo", "lint", "test", "new", "extra"}; !slices.Equal(got, want) {
		t.Errorf("got %q, expected %q", got, want)
	}
	if unmarked("helm install\n") == "" || unmarked("On a cluster:\nhelm install\n") != "" {
		t.Error("a command of a cluster is marked by a sentence before it, and only so")
	}
	files := func(name string) string {
		return map[string]string{".ci/run": "unchanged test\n", "Makefile": "up: image ## Run\nimage: ## Build\n"}[name]
	}
	if got := unrun([]string{"test", "image", "other"}, files); len(got) != 1 ||
		!strings.HasSuffix(got[0], "make other") {
		t.Errorf("got %q", got)
	}
}

// documents are those for people, but for decisions, which tell of their time.
func documents(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(files(t, "."), func(name string) bool {
		return !strings.HasSuffix(name, ".md") || strings.HasPrefix(name, "docs/adr/") ||
			strings.Contains(name, "node_modules/")
	})
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
