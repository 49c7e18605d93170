// Package project makes a project from the template: it copies a revision of the template, leaves
// out what the project has not chosen and what is about the template itself, and gives everything
// the project's names.
package project

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"example.com/quartet/tools/internal/lock"
)

// about is what is about the template itself, and in no project.
var about = []string{
	".ci",
	"docs/adr",
	"docs/benchmarks.md",
	"docs/benchmarks-raw.md",
	"docs/console.png",
	"docs/console-dark.png",
	"docs/new-project.md",
	"test/attack",
	"test/bench",
	"test/e2e/attack_test.go",
	"test/layout/name_test.go",
	"test/template",
	"tools/new",
	"tools/internal/project",
	"tools/internal/scaffold/scaffold_test.go",
	"tools/update/main_test.go",
}

// smallE2E is what a project keeps of test/e2e whose services need no backends: its test is among
// the files below.
var smallE2E = []string{
	"go.mod",
	"go.sum",
	"run",
	"cli.go",
	"cluster.go",
	"command.go",
	"helm.go",
	"metrics.go",
	"namespace.go",
	"pod.go",
	"portforward.go",
	"process.go",
	"rollout.go",
	"traffic.go",
	"wait.go",
}

// added has the files that a project has in place of the template's, as templates of text/template
// whose fields are those of view. They have the template's names, which are replaced as everywhere.
// What is in e2e/ belongs into test/e2e of projects without backends.
//
//go:embed all:files
var added embed.FS

// view is what templates of files can ask.
type view struct {
	lock.Lock
	// Title is the product's name in titles: Orders Api.
	Title  string
	readme string // the template's
	root   string // the project
}

// Has tells whether the project has a service of the template.
func (v view) Has(service string) bool { return slices.Contains(v.Services, service) }

// Section is what the template's README has below a heading.
func (v view) Section(heading string) (string, error) { return section(v.readme, heading) }

// Map is the template's map of the tree, as far as the project has it.
func (v view) Map() (string, error) { return mapOf(v.readme, v.root) }

// Render makes the project in an empty folder, from a revision of the template in another one. It
// does not generate what tools generate; Finish does.
func Render(ctx context.Context, from string, l lock.Lock, to string) error {
	// Files that are not committed have no part in it.
	if err := copyRevision(ctx, from, l.Revision, to); err != nil {
		return err
	}
	// The README as the template has it: it is cut and replaced below.
	readme, err := os.ReadFile(filepath.Join(to, "README.md"))
	if err != nil {
		return err
	}
	all, err := Services(to)
	if err != nil {
		return err
	}
	// These are not chosen, and removed as the README tells people to.
	left := slices.DeleteFunc(all, func(s string) bool { return slices.Contains(l.Services, s) })
	if err := removeServices(ctx, to, string(readme), left); err != nil {
		return err
	}
	for _, name := range about {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			return err
		}
	}
	// From here on it goes from the larger to the smaller: parts of files, and what has lost its use.
	if err := cutParts(to, l.Services); err != nil {
		return err
	}
	if err := cutPlatformSchema(to); err != nil {
		return err
	}
	// Code that only a removed service used goes as well.
	if err := prune(to); err != nil {
		return err
	}
	// What is generated has names within that are not texts. Finish makes it anew.
	if err := os.RemoveAll(filepath.Join(to, "gen")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "gen"), 0o755); err != nil {
		return err
	}
	// The answers are part of the project: make update reads them.
	if err := l.Write(to); err != nil {
		return err
	}
	// Parts of the README are taken over into the project's own.
	kept, err := cutPart(string(readme), l.Services)
	if err != nil {
		return fmt.Errorf("README.md:%w", err)
	}
	// The service to remove, as an example, is one that make service could have made.
	if slices.Contains(left, "object") {
		kept = strings.Replace(kept, "\nS=object\n", "\nS=customer\n", 1)
	}
	if err := addFiles(view{Lock: l, Title: title(l.Name), readme: kept, root: to}); err != nil {
		return err
	}
	// The service first: product rules do not touch its name.
	if l.Service != "" {
		excluded := func(file string) bool { return file == lock.Name || hasOtherEcho(file) }
		if err := rename(to, serviceRules(l.Service), excluded); err != nil {
			return err
		}
	}
	// project.lock has the names that it is about, and stays as it is.
	isLock := func(file string) bool { return file == lock.Name }
	if err := rename(to, productRules(l), isLock); err != nil {
		return err
	}
	return gofmt(to, l)
}

// Finish generates in a new project what tools generate, and reports an error if it does not
// compile or a name of the template is left.
func Finish(ctx context.Context, folder string, l lock.Lock, output io.Writer) error {
	for _, args := range [][]string{{"make", "generate", "tidy"}, {"go", "build", "./..."}} {
		command := exec.CommandContext(ctx, args[0], args[1:]...)
		command.Dir, command.Stdout, command.Stderr = folder, output, output
		// Nothing of a make above concerns it.
		command.Env = slices.DeleteFunc(command.Environ(), func(v string) bool {
			return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
		})
		if err := command.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
	}
	// Names are looked for at the end, in what was generated as well.
	left, err := Leftovers(folder, l)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("names of the template are left:\n%s", strings.Join(left, "\n"))
	}
	return nil
}

// copyRevision copies the files of a commit.
func copyRevision(ctx context.Context, from, revision, to string) error {
	var stderr bytes.Buffer
	// With the user's core.autocrlf the archive would have lines that bash does not read.
	command := exec.CommandContext(
		ctx,
		"git",
		"-C",
		from,
		"-c",
		"core.autocrlf=false",
		"archive",
		"--format=tar",
		revision,
	)
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	// What is left of the output is read, or git would block and Wait never return.
	err = extract(stdout, to)
	_, _ = io.Copy(io.Discard, stdout)
	// git's error is the cause of a broken archive.
	if waited := command.Wait(); waited != nil {
		return fmt.Errorf("git archive: %w\n%s", waited, &stderr)
	}
	return err
}

// extract writes the folders and files of an archive below a folder. OpenRoot keeps names such as
// ../x inside of it. Links are left out.
func extract(archive io.Reader, to string) error {
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	for entries := tar.NewReader(archive); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(strings.TrimSuffix(header.Name, "/"), 0o755)
		case tar.TypeReg:
			mode := fs.FileMode(0o644)
			// Of a mode git records only whether a file can be run.
			if header.Mode&0o100 != 0 {
				mode = 0o755
			}
			var file *os.File
			if file, err = root.OpenFile(header.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode); err == nil {
				_, err = io.Copy(file, entries)
				err = errors.Join(err, file.Close())
			}
		}
		if err != nil {
			return err
		}
	}
}

// removeServices does what README.md says below "Remove a service", for each of them. What it makes
// there comes later. The steps are git's, so that they need a repository.
func removeServices(ctx context.Context, folder, readme string, services []string) error {
	// The README is what an adopter follows: steps that do not work there fail here, too.
	text, err := section(readme, "Remove a service")
	if err != nil {
		return err
	}
	steps, err := block(text)
	if err != nil {
		return err
	}
	var script []string
	variable := 0
	for line := range strings.SplitSeq(steps, "\n") {
		// The steps name a service as an example. The script takes its argument in place of that.
		if strings.HasPrefix(line, "S=") {
			line, variable = "S=$1", variable+1
		}
		// Generating and testing is for Finish, when the project is whole.
		if !strings.HasPrefix(line, "make ") {
			script = append(script, line)
		}
	}
	// The README has changed in a way that these steps do not understand.
	if variable != 1 {
		return errors.New(`README.md: the steps below "Remove a service" do not set S once`)
	}
	// The steps use git rm, which takes only files that are committed. The commit has an identity of
	// its own, since the machine may have none, and goes with the repository at the end.
	for _, command := range append([][]string{
		{"git", "init", "--quiet", "--template="}, {"git", "add", "--all"},
		{"git", "-c", "user.name=new", "-c", "user.email=new@localhost", "commit", "--quiet", "--message", "copy"},
	}, scripts(script, services)...) {
		run := exec.CommandContext(ctx, command[0], command[1:]...)
		run.Dir = folder
		// Settings of the user, such as hooks, must not change what is made.
		run.Env = append(run.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if output, err := run.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
		}
	}
	return os.RemoveAll(filepath.Join(folder, ".git"))
}

// scripts are commands that run the lines once for each service, which is their $1.
func scripts(lines, services []string) (all [][]string) {
	for _, service := range services {
		all = append(
			all,
			[]string{"bash", "-euo", "pipefail", "-c", strings.Join(lines, "\n"), "remove", service},
		)
	}
	return all
}

// prune removes the packages of internal/ that nothing imports any more.
func prune(root string) error {
	// A package that is removed may have been the last to import another one.
	for {
		imported := map[string]bool{}
		packages := map[string]bool{}
		all, err := files(root)
		if err != nil {
			return err
		}
		for _, file := range all {
			if path.Ext(file) != ".go" {
				continue
			}
			here := oldModule + "/" + path.Dir(file)
			if strings.HasPrefix(file, "internal/") {
				packages[here] = true
			}
			// Only the imports are needed, so that the rest of the file is not parsed.
			parsed, err := parser.ParseFile(
				token.NewFileSet(),
				filepath.Join(root, file),
				nil,
				parser.ImportsOnly,
			)
			if err != nil {
				return err
			}
			for _, i := range parsed.Imports {
				// An external test imports its own package, which is no use of it.
				if name := strings.Trim(i.Path.Value, `"`); name != here {
					imported[name] = true
				}
			}
		}
		removed := false
		for name := range packages {
			if imported[name] {
				continue
			}
			removed = true
			// Packages below it are looked at on their own.
			for _, file := range all {
				if oldModule+"/"+path.Dir(file) != name {
					continue
				}
				if err := os.Remove(filepath.Join(root, file)); err != nil {
					return err
				}
			}
			// The folder goes if it is empty; packages below it may stay.
			_ = os.Remove(filepath.Join(root, strings.TrimPrefix(name, oldModule+"/")))
		}
		if !removed {
			return nil
		}
	}
}

// addFiles writes the files that a project has in place of the template's.
func addFiles(v view) error {
	// Their end-to-end tests need the backends of the platform; without these services there is less
	// to test.
	small := !v.Has("object") && !v.Has("channel")
	if small {
		if err := keepOnly(filepath.Join(v.root, "test", "e2e"), smallE2E); err != nil {
			return err
		}
	}
	return fs.WalkDir(added, "files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := added.ReadFile(name)
		if err != nil {
			return err
		}
		to := strings.TrimSuffix(strings.TrimPrefix(name, "files/"), ".tmpl")
		if rest, e2e := strings.CutPrefix(to, "e2e/"); e2e {
			if !small {
				return nil
			}
			to = "test/e2e/" + rest
		}
		// The files have braces of their own, as templates of Helm and workflows do.
		parsed, err := template.New(name).Delims("[[", "]]").Parse(string(text))
		if err != nil {
			return err
		}
		var made bytes.Buffer
		if err := parsed.Execute(&made, v); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(v.root, path.Dir(to)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(v.root, to), made.Bytes(), 0o644)
	})
}

// keepOnly removes what a folder has besides some names.
func keepOnly(folder string, names []string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !slices.Contains(names, entry.Name()) {
			if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
