package project

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/mod/module"

	"example.com/quartet/tools/internal/lock"
	"example.com/quartet/tools/internal/scaffold"
)

// What the template calls itself, its module and the service that a project may rename.
const (
	oldName    = "quartet"
	oldModule  = "example.com/quartet"
	oldService = "echo"
)

// maxName is the length of the longest name. Names of pods, Services and nodes of kind are made
// from it, with up to 30 letters around it, and DNS allows 63.
const maxName = 30

var (
	// nameForm is that of a name in DNS, without two dashes in a row, which become two blanks in
	// titles.
	nameForm = regexp.MustCompile(`^[a-z]([a-z0-9]|-[a-z0-9])*$`)
	// serviceForm is that of a name in Protobuf.
	serviceForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
)

// foreign are what variables begin with that the chart or Kubernetes sets in pods, or that Go and
// the libraries of the programs read.
var foreign = []string{
	"AWS", "GRPC", "HTTP", "HTTPS", "KUBERNETES", "KUBERNETES_PORT", "KUBERNETES_SERVICE", "NATS",
	"NODE", "OTEL", "POD", "SSL",
}

// Validate says all that is wrong with the answers for a new project from the template in a folder,
// before anything is written.
func Validate(template string, l lock.Lock) error {
	return errors.Join(
		validModule(l.Module),
		validName(template, l),
		validServices(template, l.Services),
		validService(template, l),
	)
}

// validModule checks the path of the Go module.
func validModule(path string) error {
	if path == "" {
		return errors.New("MODULE is missing, the path of the Go module: github.com/acme/orders-api")
	}
	// These are the rules of the go command for paths of modules.
	if err := module.CheckPath(path); err != nil {
		return fmt.Errorf("MODULE: %w", err)
	}
	// Its import paths would end with the version, which the names in the template do not.
	if _, major, _ := module.SplitPathVersion(path); major != "" {
		return fmt.Errorf(
			"MODULE: %s names the major version %s, which a new project does not have yet",
			path,
			major,
		)
	}
	return ours("MODULE", path)
}

// ours refuses what has the template's own name in it, because then nothing could tell what was
// left unrenamed.
func ours(what, text string) error {
	if strings.Contains(strings.ToLower(text), oldName) {
		return fmt.Errorf("%s: %s contains %q, the name that is replaced", what, text, oldName)
	}
	return nil
}

// validName checks the product's name: in DNS, in Go, and that it is nothing else in the template
// yet.
func validName(template string, l lock.Lock) error {
	name := l.Name
	if name == "" {
		return errors.New("NAME is missing, what the product is called: orders")
	}
	if !nameForm.MatchString(name) {
		return fmt.Errorf(
			"NAME: %q has to be lower-case letters and digits, with single dashes between them, and begin with a letter",
			name,
		)
	}
	if len(name) > maxName {
		return fmt.Errorf(
			"NAME: %s has %d letters, and at most %d leave room for the names of pods and Services, which are longer",
			name,
			len(name),
			maxName,
		)
	}
	if err := ours("NAME", name); err != nil {
		return err
	}
	goName := goName(name)
	if err := scaffold.ValidPackage(goName); err != nil {
		return fmt.Errorf("NAME: %w", err)
	}
	// In a pod the programs would take these for settings of theirs that they do not know.
	if prefix := strings.ToUpper(strings.ReplaceAll(name, "-", "_")); slices.Contains(foreign, prefix) {
		return fmt.Errorf("NAME: variables that begin with %s_ are for something else", prefix)
	}
	// make up has a namespace of the name.
	if strings.HasPrefix(name, "kube-") {
		return fmt.Errorf("NAME: namespaces such as %s are those of Kubernetes", name)
	}
	// The mains import the package at the root and those of services, which are called as they are.
	if services, err := Services(template); err != nil || slices.Contains(services, name) {
		return errors.Join(err, fmt.Errorf("NAME: there is a service %s", name))
	}
	if l.Service != "" && strings.Contains(name, oldService) {
		return fmt.Errorf("NAME: %s contains %q, the name that SERVICE replaces", name, oldService)
	}
	// The chart of the product gets the name, beside others such as that of the platform.
	if _, err := os.Lstat(filepath.Join(template, "charts", name)); err == nil {
		return fmt.Errorf("NAME: charts/%s is there already", name)
	}
	// The package at the root gets the name. In files that import it, nothing else may have it.
	taken, err := identifiers(template, func(file *ast.File) bool {
		return slices.ContainsFunc(
			file.Imports,
			func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+oldModule+`"` },
		)
	}, ".")
	if err != nil {
		return err
	}
	// A variable or an import of that name would hide the package.
	if where := taken[goName]; where != "" {
		return fmt.Errorf("NAME: %s is the name of something else in %s", goName, where)
	}
	return nil
}

// validServices checks which services the project is to have.
func validServices(template string, services []string) error {
	all, err := Services(template)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		return fmt.Errorf("SERVICES: name some of %s", strings.Join(all, ", "))
	}
	if !slices.Contains(services, oldService) {
		return fmt.Errorf(
			"SERVICES: %s has to be among them, because the documents lead through it; it can be removed later",
			oldService,
		)
	}
	for i, service := range services {
		if !slices.Contains(all, service) {
			return fmt.Errorf("SERVICES: there is no %q, only %s", service, strings.Join(all, ", "))
		}
		if slices.Contains(services[:i], service) {
			return fmt.Errorf("SERVICES: %s is there twice", service)
		}
	}
	return nil
}

// validService checks what the service is to be called, "" for its name in the template.
func validService(template string, l lock.Lock) error {
	name := l.Service
	if name == "" {
		return nil
	}
	// Protobuf names the service with the word Service after it.
	if !serviceForm.MatchString(name) || strings.HasSuffix(name, "Service") {
		return fmt.Errorf(
			"SERVICE: %q has to be letters and digits, begin with an upper-case letter, and not end with Service: Order",
			name,
		)
	}
	if !slices.Contains(l.Services, oldService) {
		return fmt.Errorf("SERVICE: it renames %s, which is not among SERVICES", oldService)
	}
	if strings.Contains(strings.ToLower(name), oldService) {
		return fmt.Errorf("SERVICE: %s contains %q, the name that is replaced", name, oldService)
	}
	if err := ours("SERVICE", name); err != nil {
		return err
	}
	// The folder and the Go package of the service have the name in lower case.
	folder := strings.ToLower(name)
	if err := scaffold.ValidPackage(folder); err != nil {
		return fmt.Errorf("SERVICE: %w", err)
	}
	// Two packages of one name could not be imported together.
	if folder == goName(l.Name) {
		return fmt.Errorf("SERVICE: %s is the product's name", folder)
	}
	// | slices|Services that the project does not have count as well: it may take them later.
	if services, err := Services(template); err != nil || slices.Contains(services, folder) {
		return errors.Join(err, fmt.Errorf("SERVICE: there is a service %s", folder))
	}
	schema, err := os.ReadFile(filepath.Join(template, "charts", oldName, "values.schema.json"))
	if err != nil {
		return err
	}
	// The schema lists all variables, of the host as well: those of a service begin with its name.
	if prefix := strings.ToUpper(folder) + "_"; strings.Contains(string(schema), `"`+prefix) {
		return fmt.Errorf("SERVICE: there are variables already that begin with %s", prefix)
	}
	if err := scaffold.TestsAreFree(template, folder); err != nil {
		return fmt.Errorf("SERVICE: %w", err)
	}
	// Both mains import the service, and its own code gets methods, messages and files of its name.
	taken, err := identifiers(template, func(*ast.File) bool { return true },
		"server/"+oldService, "client/"+oldService, "server/main.go", "client/main.go")
	if err != nil {
		return err
	}
	// These are the forms in which the name appears in Go.
	for _, word := range []string{
		folder, name, lowerFirst(name), plural(name), lowerFirst(plural(name)),
	} {
		if where := taken[word]; where != "" {
			return fmt.Errorf("SERVICE: %s is the name of something else in %s", word, where)
		}
	}
	for _, side := range []string{"server", "client"} {
		// The file echo.go of the side would get this path.
		if _, err := os.Lstat(filepath.Join(template, side, oldService, folder+".go")); err == nil {
			return fmt.Errorf("SERVICE: %s/%s has a file %s.go already", side, oldService, folder)
		}
	}
	return nil
}

// Services are the services of the template, by the names of their folders.
func Services(template string) ([]string, error) {
	// Each folder below server/ is a service.
	entries, err := os.ReadDir(filepath.Join(template, "server"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// identifiers are the names in Go files below some paths that match, with a file in which each is.
func identifiers(
	root string,
	match func(*ast.File) bool,
	paths ...string,
) (map[string]string, error) {
	found := map[string]string{}
	for _, below := range paths {
		err := filepath.WalkDir(
			filepath.Join(root, below),
			func(file string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() || path.Ext(file) != ".go" {
					return err
				}
				parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
				if err != nil || !match(parsed) {
					return err
				}
				relative, _ := filepath.Rel(root, file)
				// The old names are left out: they are what becomes the new one.
				ast.Inspect(parsed, func(n ast.Node) bool {
					if name, ok := n.(*ast.Ident); ok && name.Name != oldName && name.Name != oldService {
						found[name.Name] = relative
					}
					return true
				})
				// An import without a name beside it is called by the name of its package.
				for _, i := range parsed.Imports {
					name := assumedName(strings.Trim(i.Path.Value, `"`))
					if i.Name == nil && name != oldName && name != oldService {
						found[name] = relative
					}
				}
				return nil
			},
		)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// The forms that a name has: in Go and Protobuf, where there are no dashes; in metrics and, in
// upper case, in variables; in identifiers; in titles.
// goName has no dashes: ordersapi.
func goName(name string) string { return strings.ReplaceAll(name, "-", "") }

// snake has underscores: orders_api.
func snake(name string) string { return strings.ReplaceAll(name, "-", "_") }

// camel has upper-case letters: OrdersApi.
func camel(name string) string { return strings.ReplaceAll(title(name), " ", "") }

// title has blanks and upper-case letters: Orders Api.
func title(name string) string {
	words := strings.Split(name, "-")
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, " ")
}

// lowerFirst is the name of something that is not exported: order, and httpProxy of HTTPProxy.
func lowerFirst(name string) string {
	upper := len(name) - len(strings.TrimLeft(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	// The last of several upper-case letters begins the next word.
	if upper > 1 && upper < len(name) && unicode.IsLower(rune(name[upper])) {
		upper--
	}
	return strings.ToLower(name[:upper]) + name[upper:]
}

// plural is what several of them are called.
func plural(name string) string {
	switch {
	case strings.HasSuffix(name, "y") && !strings.ContainsAny(name[max(0, len(name)-2):len(name)-1], "aeiou"):
		return name[:len(name)-1] + "ies"
	case slices.ContainsFunc([]string{"s", "x", "z", "ch", "sh"}, func(end string) bool { return strings.HasSuffix(name, end) }):
		return name + "es"
	}
	return name + "s"
}

// assumedName is what goimports takes for the name of a package, until it has read it. Where the
// package is called otherwise, it writes the name beside the path.
func assumedName(importPath string) string {
	base := strings.TrimPrefix(path.Base(importPath), "go-")
	isNoName := func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if i := strings.IndexFunc(base, isNoName); i >= 0 {
		base = base[:i]
	}
	return base
}
