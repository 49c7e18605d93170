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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	l.Services = strings.FieldsFunc(*services, func(r rune) bool { return r == ',' || r == ' ' })
	err := run(ctx, *template, *dir, *from, l)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, template, dir, from string, l lock.Lock) (err error) {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if from != "" {
		if l, err = lock.Read(filepath.Dir(from)); err != nil {
			return err
		}
	}
	if l.Revision, err = git(ctx, template, "rev-parse", "HEAD"); err != nil {
		return fmt.Errorf("%s is no clone of the template: %w", template, err)
	}
	if from == "" {
		l.Template = origin(ctx, template)
	}
	if dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(template, dir)
	}
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
	made, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	if err := project.Render(ctx, template, l, made); err != nil {
		return err
	}
	var output strings.Builder
	if err := project.Finish(ctx, made, l, &output); err != nil {
		return fmt.Errorf("%w\n%s", err, &output)
	}
	if from == "" {
		if err := begin(ctx, made, l); err != nil {
			return err
		}
	}
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

// empty wants the folder of the project to be empty or missing, and outside of the template.
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
	inside, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	outside, err := filepath.Abs(template)
	if err != nil {
		return err
	}
	if inside == outside || strings.HasPrefix(inside, outside+string(filepath.Separator)) {
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
	if u, err := url.Parse(remote); err == nil && u.Host != "" {
		u.User = nil
		return u.String()
	}
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
	name, email := "make new", "make-new@localhost"
	if v, err := git(ctx, dir, "config", "user.name"); err == nil && v != "" {
		name = v
	}
	if v, err := git(ctx, dir, "config", "user.email"); err == nil && v != "" {
		email = v
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--all"},
		{"-c", "user.name=" + name, "-c", "user.email=" + email, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "--message", message},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

func next(dir string, l lock.Lock) {
	fmt.Printf(`%s is ready in %s.

  cd %[2]s
  make test                        everything is tested that needs only Go and git; the first time compiles for a minute or two
  make demo                        see both programs at work
  make up                          the same on a kind cluster, with Prometheus, Jaeger and Grafana
  make rpc SERVICE=%s NAME=Get MODE=unary
  make service NAME=Customer       an RPC or a service more; README.md has the steps by hand
  make update                      take later fixes of the template, on a branch
  git remote add origin …          its history has begun with one commit
  LICENSE, README.md               are still to be made yours
`, l.Name, dir, orEcho(l))
}

// orEcho is a service of the project.
func orEcho(l lock.Lock) string {
	if l.Service != "" {
		return l.Service
	}
	return strings.ToUpper(l.Services[0][:1]) + l.Services[0][1:]
}

func git(ctx context.Context, folder string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	command := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
