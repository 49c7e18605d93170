package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

// rule is an arrow of import that there must not be, neither directly nor through other packages.
// Packages of this module are named by their folder, as ./server/object, others by their import
// path.
type rule struct {
	name    string
	forbids func(from, to string) bool
}

var rules = []rule{
	{"server and client never import each other", func(from, to string) bool {
		return below(from, "./server") && below(to, "./client") ||
			below(from, "./client") && below(to, "./server")
	}},
	{"services never import each other", func(from, to string) bool {
		return service(from) != "" && service(to) != "" && service(from) != service(to)
	}},
	{"a service's domain knows neither gRPC nor the contract", func(from, to string) bool {
		return domain(from) && (below(to, "google.golang.org/grpc") || below(to, "./gen"))
	}},
	{"internal imports nothing else of this module", func(from, to string) bool {
		return below(from, "./internal") && ours(to) && !below(to, "./internal")
	}},
	{"generated code imports nothing else of this module", func(from, to string) bool {
		return below(from, "./gen") && ours(to) && !below(to, "./gen")
	}},
}

// below tells whether a package is in a folder or below it.
func below(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// ours tells whether a package is of this module.
func ours(pkg string) bool { return below(pkg, ".") }

// service is the folder of the service to which a package belongs, ./server/object for example;
// empty for none.
func service(pkg string) string {
	parts := strings.Split(pkg, "/")
	if len(parts) < 3 || !below(pkg, "./server") && !below(pkg, "./client") {
		return ""
	}
	return strings.Join(parts[:3], "/")
}

// domain tells whether a package is below the folder of a service of the server, as
// ./server/object/engine is.
func domain(pkg string) bool {
	return below(pkg, "./server") && service(pkg) != "" && service(pkg) != pkg
}

// node is what is known of a package.
type node struct {
	// imports are those of the package, tested also those of its tests.
	imports, tested []string
}

// graph is the packages of this module and all they import, by the names that rules have for them.
type graph map[string]node

func TestImports(t *testing.T) {
	g := load(t)
	for _, r := range rules {
		for _, problem := range g.broken(r) {
			t.Error(problem)
		}
	}
}

// broken says for each package that breaks a rule by which imports it does.
func (g graph) broken(r rule) (problems []string) {
	for _, from := range slices.Sorted(maps.Keys(g)) {
		path := g.path(from, func(to string) bool { return r.forbids(from, to) })
		if path != nil {
			problems = append(problems, fmt.Sprintf("%s: %s", r.name, strings.Join(path, " -> ")))
		}
	}
	return problems
}

// path is the shortest one from a package, or from its tests, to a package that is looked for; nil
// if there is none.
func (g graph) path(from string, wanted func(pkg string) bool) []string {
	paths := [][]string{{from}}
	seen := map[string]bool{from: true}
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		last := path[len(path)-1]
		n := g[last]
		imports := n.imports
		if last == from {
			imports = slices.Concat(imports, n.tested)
		}
		for _, imported := range imports {
			if seen[imported] {
				continue
			}
			seen[imported] = true
			longer := append(slices.Clone(path), imported)
			if wanted(imported) {
				return longer
			}
			paths = append(paths, longer)
		}
	}
	return nil
}

// load asks go list.
func load(t *testing.T) graph {
	t.Helper()
	module := strings.TrimSpace(string(output(t, "go", "list", "-m")))
	name := func(importPath string) string {
		if below(importPath, module) {
			return "." + strings.TrimPrefix(importPath, module)
		}
		return importPath
	}
	names := func(importPaths []string) []string {
		for i := range importPaths {
			importPaths[i] = name(importPaths[i])
		}
		return importPaths
	}
	g := graph{}
	listed := output(
		t,
		"go",
		"list",
		"-deps",
		"-json=ImportPath,Imports,TestImports,XTestImports",
		"./...",
	)
	for decoder := json.NewDecoder(bytes.NewReader(listed)); ; {
		var pkg struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatal(err)
		}
		n := node{imports: names(pkg.Imports)}
		if ours(name(pkg.ImportPath)) {
			n.tested = names(slices.Concat(pkg.TestImports, pkg.XTestImports))
		}
		g[name(pkg.ImportPath)] = n
	}
}

func TestImportsFindsWhatIsForbidden(t *testing.T) {
	g := graph{
		"./client/a": {
			imports: []string{"./internal/x"},
			tested:  []string{"./test/process", "./server/a"},
		},
		"./client/b":   {imports: []string{"./client/a/part"}},
		"./demo":       {imports: []string{"./test/process"}},
		"./gen/v1":     {imports: []string{"./internal/x"}},
		"./internal/x": {imports: []string{"./internal/y"}},
		"./internal/y": {imports: []string{"google.golang.org/grpc"}},
		"./internal/z": {tested: []string{"./gen/v1"}},
		"./server":     {imports: []string{"./server/a", "./server/b"}},
		"./server/a": {
			imports: []string{"./server/a/store", "google.golang.org/grpc", "./gen/v1"},
		},
		"./server/a/store":        {imports: []string{"./internal/x"}},
		"./server/a/store/disk":   {imports: []string{"example.org/blob"}},
		"./server/b":              {imports: []string{"./server/b/broker"}},
		"./server/b/broker":       {imports: []string{"example.org/queue"}},
		"example.org/blob":        {imports: []string{"google.golang.org/grpc/codes"}},
		"example.org/queue":       {imports: []string{"example.org/queue/inner"}},
		"example.org/queue/inner": {imports: []string{"google.golang.org/grpcsomething"}},
	}
	want := map[string][]string{
		rules[0].name: {"./client/a -> ./server/a"},
		rules[1].name: {"./client/a -> ./server/a", "./client/b -> ./client/a/part"},
		rules[2].name: {
			"./server/a/store -> ./internal/x -> ./internal/y -> google.golang.org/grpc",
			"./server/a/store/disk -> example.org/blob -> google.golang.org/grpc/codes",
		},
		rules[3].name: {"./internal/z -> ./gen/v1"},
		rules[4].name: {"./gen/v1 -> ./internal/x"},
	}
	for _, r := range rules {
		var problems []string
		for _, path := range want[r.name] {
			problems = append(problems, r.name+": "+path)
		}
		if got := g.broken(r); !slices.Equal(got, problems) {
			t.Errorf("%s:\ngot      %q\nexpected %q", r.name, got, problems)
		}
	}
}
