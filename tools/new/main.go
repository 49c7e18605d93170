// Command new makes a project of one's own from the template. `make new` runs it.
//
//	go -C tools run ./new -dir ../orders -module github.com/acme/orders-api -name orders [-services echo] [-service Order]
//
// It takes the last commit of the template, so that what is not committed has no part in it. With
// -lock it makes the project that a project.lock describes, as this revision of the template makes
// it, and leaves out the history: that is what `make update` needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"example.com/quartet/tools/internal/lock"
	"example.com/quartet/tools/internal/project"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("new: ")
	var l lock.Lock
	template := flag.String(
		"template",
		"..",
		"the `folder` of the template, a clone of its repository",
	)
	dir := flag.String(
		"dir",
		"",
		"the `folder` of the project, empty or not there yet, as seen from the template",
	)
	flag.StringVar(&l.Module, "module", "", "the `path` of its Go module: github.com/acme/orders-api")
	flag.StringVar(&l.Name, "name", "", "its `name`: orders")
	services := flag.String(
		"services",
		"echo",
		"the services of the template that it has, as a `list` with commas",
	)
	flag.StringVar(
		&l.Service,
		"service",
		"",
		"what EchoService becomes, as a `name` without Service: Order",
	)
	from := flag.String("lock", "", "a project.lock, whose answers are taken in place of those above")
	flag.Parse()
	ctx, stop := signal.NotifyContext(
		context.Background(),
		syscall.SIGINT,
		syscall.SIGTERM,
		syscall.SIGHUP,
	)
	l.Services = strings.FieldsFunc(*services, func(r rune) bool { return r == ',' || r == ' ' })
	err := run(ctx, *template, *dir, *from, l)
	// Before Fatal, which ends the process without deferred calls.
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run makes the project in a folder beside dir, and moves it there when it is whole. from is a
// project.lock, whose answers replace those in l.
func run(ctx context.Context, template, dir, from string, l lock.Lock) (err error) {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if from != "" {
		if l, err = lock.Read(filepath.Dir(from)); err != nil {
			return err
		}
	}
	// The revision is always that of the checkout, also with -lock: make update checks it out before.
	if l.Revision, err = git(ctx, template, "rev-parse", "HEAD"); err != nil {
		return fmt.Errorf("%s is no clone of the template: %w", template, err)
	}
	if from == "" {
		l.Template = origin(ctx, template)
	}
	// Without links, or a project in the template would seem to be elsewhere.
	if template, err = resolve(template); err != nil {
		return err
	}
	if dir != "" {
		// -C of the go command has changed the folder that a relative path starts at.
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(template, dir)
		}
		// The project is moved to where a link leads, which would be replaced itself.
		if dir, err = resolve(dir); err != nil {
			return fmt.Errorf("DIR: %w", err)
		}
	}
	// All mistakes in the answers are reported at once, before anything is written.
	if err := errors.Join(project.Validate(template, l), empty(template, dir)); err != nil {
		return err
	}
	if changed, err := git(ctx, template, "status", "--porcelain"); err == nil && changed != "" &&
		from == "" {
		fmt.Println("new: what is not committed here is left out")
	}
	// It appears as a whole: a project that could not be finished is not there.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	// It is beside dir, so that the rename stays within one file system.
	made, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	// MkdirTemp makes folders that only their owner can read.
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	if err := project.Render(ctx, template, l, made); err != nil {
		return err
	}
	// The output of the tools is shown only if they fail.
	var output strings.Builder
	if err := project.Finish(ctx, made, l, &output); err != nil {
		return fmt.Errorf("%w\n%s", err, &output)
	}
	if from == "" {
		if err := begin(ctx, made, l); err != nil {
			return err
		}
	}
	// An empty folder makes place. Remove fails if something has come into it meanwhile.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, dir); err != nil {
		return err
	}
	if from == "" {
		next(dir, l)
	}
	return nil
}

// resolve makes a path absolute and free of links, as far as there is something at it.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link to a folder that is not there", path)
	}
	// The root is always there, so that this ends.
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// empty wants the folder of the project to be empty or missing, and outside of the template. Both
// paths are free of links.
func empty(template, dir string) error {
	if dir == "" {
		return errors.New("DIR: say where the project shall be: DIR=../orders")
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("DIR: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("DIR: %s is not empty", dir)
	}
	// A project inside the template would be part of its repository.
	if dir == template || strings.HasPrefix(dir, template+string(filepath.Separator)) {
		return fmt.Errorf("DIR: %s is inside the template", dir)
	}
	return nil
}

// origin is where the template came from, without credentials. A path of this machine says nothing
// to others.
func origin(ctx context.Context, template string) string {
	remote, err := git(ctx, template, "remote", "get-url", "origin")
	if err != nil {
		return ""
	}
	// The user of an https address may be a token. That of ssh is part of where it is, as git@ is:
	// without it git would log in as the user of the machine.
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		if overSSH := u.Scheme == "ssh" || u.Scheme == "git+ssh"; overSSH && u.User != nil {
			u.User = url.User(u.User.Username())
		} else {
			u.User = nil
		}
		return u.String()
	}
	// The form of scp, which url.Parse does not take for one with a host.
	if host, path, found := strings.Cut(remote, ":"); found && !strings.Contains(host, "/") &&
		path != "" {
		return remote // git@host:path
	}
	return ""
}

// begin starts the history of the project.
func begin(ctx context.Context, dir string, l lock.Lock) error {
	message := fmt.Sprintf(
		"Begin %s from the template\n\nMade by make new at revision %s; %s has the answers.",
		l.Name,
		l.Revision,
		lock.Name,
	)
	// A machine without an identity can make the first commit all the same.
	name, email := "make new", "make-new@localhost"
	if v, err := git(ctx, dir, "config", "user.name"); err == nil && v != "" {
		name = v
	}
	if v, err := git(ctx, dir, "config", "user.email"); err == nil && v != "" {
		email = v
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		// What the user has git ignore everywhere belongs to the project all the same.
		{"-c", "core.excludesFile=/dev/null", "add", "--all"},
		// A key with a password would ask for it, and hooks of the user are about other repositories.
		{"-c", "user.name=" + name, "-c", "user.email=" + email, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "--message", message},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// next says what can be done with the new project.
func next(dir string, l lock.Lock) {
	fmt.Printf(`%s is ready in %s.

  cd %[2]s
  make test                        everything is tested that needs only Go and git; the first time compiles for a minute or two
  make demo                        see both programs at work
  make up                          the same on a kind cluster, with Prometheus, Jaeger and Grafana
  make rpc SERVICE=%s NAME=Get MODE=unary
  make service NAME=Customer       an RPC or a service more; README.md has the steps by hand
  %-32s take later fixes of the template, on a branch
  git remote add origin …          its history has begun with one commit
  LICENSE, README.md               are still to be made yours
`, l.Name, dir, orEcho(l), update(l))
}

// update is the command that takes later fixes. A template without an address has to be named.
func update(l lock.Lock) string {
	if l.Template == "" {
		return "make update FROM=…"
	}
	return "make update"
}

// orEcho is a service of the project.
func orEcho(l lock.Lock) string {
	if l.Service != "" {
		return l.Service
	}
	return strings.ToUpper(l.Services[0][:1]) + l.Services[0][1:]
}

// git runs git in a folder and returns what it prints, without blanks around it.
func git(ctx context.Context, folder string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	command := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
