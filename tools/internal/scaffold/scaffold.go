// Package scaffold adds RPCs and services to a project: what is the same for each of them, so that
// people write only what theirs are about. What it has written belongs to the project, and is not
// written again.
package scaffold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Modes are those of gRPC, by what they are called on a command line.
var Modes = []string{"unary", "server", "client", "bidi"}

// RPC is what make rpc is asked for.
type RPC struct {
	Service string // without "Service": "Order"
	Name    string // "Cancel"
	Mode    string // one of Modes
}

// nameForm is the form of names in Protobuf, where services, RPCs and messages begin with an
// upper-case letter.
var nameForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)

// AddRPC adds an RPC to a service of the project in a folder. It writes nothing if the project
// could not have it, and takes back what it wrote if the result does not compile. It returns the
// files that are new.
func AddRPC(ctx context.Context, root string, r RPC, output io.Writer) ([]string, error) {
	p, err := open(root)
	if err != nil {
		return nil, err
	}
	// Both Order and OrderService are understood.
	r.Service = strings.TrimSuffix(r.Service, "Service")
	if err := p.addRPC(r); err != nil {
		return nil, err
	}
	return p.apply(ctx, output, r.Service)
}

// AddService adds a service with one RPC, likewise.
func AddService(ctx context.Context, root string, r RPC, output io.Writer) ([]string, error) {
	p, err := open(root)
	if err != nil {
		return nil, err
	}
	r.Service = strings.TrimSuffix(r.Service, "Service")
	// A service without an RPC would not compile; it exists only between these two steps.
	if err := p.addService(r.Service); err != nil {
		return nil, err
	}
	if err := p.addRPC(r); err != nil {
		return nil, err
	}
	return p.apply(ctx, output, r.Service)
}

// project is a checkout, with changes that are not written yet.
type project struct {
	root   string
	module string
	proto  string // the folder of the contract: "proto/orders/v1"
	pkg    string // its package: "orders.v1"
	// changed has the new content of files by their path, also of those that are not there yet.
	changed map[string]string
}

// open reads what the names of a project follow from: its module and the one folder of its
// contract.
func open(root string) (*project, error) {
	p := &project{root: root, changed: map[string]string{}}
	text, err := p.read("go.mod")
	if err != nil {
		return nil, err
	}
	if found := regexp.MustCompile(`(?m)^module (\S+)$`).FindStringSubmatch(text); found != nil {
		p.module = found[1]
	}
	// The folder of the contract has the name of the product, which is not known here.
	contracts, err := filepath.Glob(filepath.Join(root, "proto", "*", "v1"))
	if err != nil {
		return nil, err
	}
	if len(contracts) != 1 || p.module == "" {
		return nil, errors.New("there has to be a go.mod with a module, and one folder proto/<name>/v1")
	}
	name := filepath.Base(filepath.Dir(contracts[0]))
	p.proto, p.pkg = path.Join("proto", name, "v1"), name+".v1"
	return p, nil
}

// alias is what Go files call the generated package, which they import by its path.
func (p *project) alias() string { return strings.ReplaceAll(p.pkg, ".", "") }

// importPath is the path of the generated package.
func (p *project) importPath() string {
	return p.module + "/gen/" + strings.ReplaceAll(p.pkg, ".", "/")
}

// read returns a file as it will be, if it is to change, or as it is.
func (p *project) read(file string) (string, error) {
	if text, there := p.changed[file]; there {
		return text, nil
	}
	text, err := os.ReadFile(filepath.Join(p.root, file))
	return string(text), err
}

// create adds a file that must not be there.
func (p *project) create(file, text string) error {
	if _, err := p.read(file); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is there already", file))
	}
	p.changed[file] = text
	return nil
}

// goFiles are the Go files of a folder that are no tests, by path.
func (p *project) goFiles(folder string) (map[string]string, error) {
	all := map[string]string{}
	entries, err := os.ReadDir(filepath.Join(p.root, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, path.Join(folder, entry.Name()))
	}
	// Files that are not written yet count as well: addRPC looks at those of addService.
	for file := range p.changed {
		if path.Dir(file) == folder {
			names = append(names, file)
		}
	}
	for _, file := range names {
		if path.Ext(file) == ".go" && !strings.HasSuffix(file, "_test.go") {
			if all[file], err = p.read(file); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// apply writes what has changed, generates, and compiles the service on both sides.
func (p *project) apply(
	ctx context.Context,
	output io.Writer,
	service string,
) (created []string, err error) {
	// What was there before, to take back everything if a step fails.
	old := map[string][]byte{}
	for file, text := range p.changed {
		if path.Ext(file) == ".go" {
			// A text that does not parse is found before anything is written.
			formatted, err := format.Source([]byte(text))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			p.changed[file] = string(formatted)
		}
		if before, err := os.ReadFile(filepath.Join(p.root, file)); err == nil {
			old[file] = before
		} else {
			created = append(created, file)
		}
	}
	slices.Sort(created)
	// The project is left as it was, generated code included, even after a signal.
	defer func() {
		if err != nil {
			err = errors.Join(err, p.takeBack(old))
			_ = p.run(context.WithoutCancel(ctx), io.Discard, "make", "generate")
		}
	}()
	for file, text := range p.changed {
		name := filepath.Join(p.root, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	folder := strings.ToLower(service)
	if err := p.run(ctx, output, "make", "generate"); err != nil {
		return nil, err
	}
	// Vet compiles the tests too, and so finds names that are taken.
	return created, p.run(
		ctx,
		output,
		"go",
		"vet",
		"./server/"+folder,
		"./client/"+folder,
		"./server",
		"./client",
	)
}

// takeBack restores the files as they were, and removes those that are new.
func (p *project) takeBack(old map[string][]byte) error {
	var problems []error
	for file := range p.changed {
		name := filepath.Join(p.root, file)
		if before, there := old[file]; there {
			problems = append(problems, os.WriteFile(name, before, 0o644))
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
		_ = os.Remove(filepath.Dir(name)) // It stays if it has something else.
	}
	return errors.Join(problems...)
}

// run runs a command in the project. Its output is shown only if it fails.
func (p *project) run(ctx context.Context, output io.Writer, name string, args ...string) error {
	var said bytes.Buffer
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = p.root
	command.Stdout, command.Stderr = &said, &said
	// A signal is for all that the command runs, so that nothing writes any more when the files are
	// taken back. This process alone gets that of the terminal, and passes it on.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second // Then it is killed.
	// make passes its own flags on by these, which are about another make.
	command.Env = slices.DeleteFunc(command.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if err := command.Run(); err != nil {
		// After a signal nothing may read the output any more, and to write it would end this process.
		if ctx.Err() == nil {
			_, _ = output.Write(said.Bytes())
		}
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// validForm wants the name of a service or an RPC to be one in Protobuf.
func validForm(what, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf(
			"%s: %q has to be letters and digits, and begin with an upper-case letter",
			what,
			name,
		)
	}
	return nil
}

// reserved are names of packages and folders that mean something to the go command, and words that
// YAML takes for something else than a text. Go allows no import of the name init.
var reserved = []string{
	"init",
	"main",
	"internal",
	"vendor",
	"testdata",
	"documentation",
	"null",
	"yes",
	"no",
	"on",
	"off",
	"y",
	"n",
}

// ValidPackage wants a name in lower case that a Go package and its folder can have.
func ValidPackage(name string) error {
	// A keyword cannot be a package, and a name such as string would hide the type.
	if token.IsKeyword(name) || types.Universe.Lookup(name) != nil || slices.Contains(reserved, name) {
		return fmt.Errorf("a Go package cannot be called %s", name)
	}
	return nil
}

// snake is the name of a file: get_order.
func snake(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "${1}_${2}"))
}

// fileOf is the file of an RPC without its ending, which must not be one that the go command has
// another use for.
func fileOf(name string) string {
	file := snake(name)
	// A file x_test.go is a test to the go command, and x_linux.go is for Linux alone.
	last := file[strings.LastIndex(file, "_")+1:]
	if last != file && (last == "test" || slices.Contains(platforms, last)) {
		return strings.ReplaceAll(file, "_", "")
	}
	return file
}

// platforms are operating systems and architectures of `go tool dist list`. A file whose name ends
// with one is compiled only there.
var platforms = strings.Fields(
	`aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris unix wasip1
	windows 386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm`,
)
