// Command update takes later changes of the template into a project that make new has made. `make
// update` runs it.
//
//	go -C tools run ./update [-from url-or-path] [-to revision]
//
// It makes the project twice more by the answers in project.lock, from the revision of the template
// that is recorded there and from a newer one, each with the generator of that revision. What
// differs between the two is merged into a branch, three ways: the project's own changes stay, and
// where both have changed the same lines there is a conflict to be resolved as in any merge. The
// branch that is checked out when it begins is left alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.com/quartet/tools/internal/lock"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("update: ")
	project := flag.String("project", "..", "the `folder` of the project")
	from := flag.String(
		"from",
		"",
		"where the template is, as a `url-or-path` to clone; by default where project.lock says",
	)
	to := flag.String(
		"to",
		"",
		"the `revision` of the template to update to, by default the newest on its main branch",
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(
		context.Background(),
		syscall.SIGINT,
		syscall.SIGTERM,
		syscall.SIGHUP,
	)
	err := run(ctx, *project, *from, *to)
	// Before Fatal, which ends the process without deferred calls.
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// run makes the project from both revisions, and merges what differs between them.
func run(ctx context.Context, project, from, to string) error {
	l, err := lock.Read(project)
	if err != nil {
		return err
	}
	if from == "" {
		from = l.Template
	}
	if from == "" {
		return errors.New("project.lock does not say where the template is: say it with FROM=url-or-path")
	}
	if changed, err := git(ctx, project, nil, "status", "--porcelain"); err != nil {
		return err
	} else if changed != "" {
		return errors.New(
			"commit or stash what has changed here first: it would be mixed with the update",
		)
	}
	scratch, err := os.MkdirTemp("", "update-")
	if err != nil {
		return err
	}
	defer remove(scratch)
	u := updater{project: project, scratch: scratch, template: filepath.Join(scratch, "template")}
	// A path is one as seen from the project.
	if near := filepath.Join(project, from); !filepath.IsAbs(from) {
		if _, err := os.Stat(near); err == nil {
			if from, err = filepath.Abs(near); err != nil {
				return err
			}
		}
	}
	// --no-checkout: each revision gets a work tree of its own in render. With the user's
	// core.autocrlf an older one would have scripts that bash does not read.
	if _, err := git(ctx, scratch, nil, "clone", "--quiet", "--no-checkout", "--config",
		"core.autocrlf=false", "--", from, u.template); err != nil {
		return err
	}
	if to == "" {
		// It is what the template's repository calls its main branch.
		to = "origin/HEAD"
	}
	newer, err := u.revision(ctx, to)
	if err != nil {
		return err
	}
	// A template whose history was rewritten, or another repository, does not have it. What was
	// written there by hand may be a tag, or a part of the digits.
	older, err := u.revision(ctx, l.Revision)
	if err != nil {
		return fmt.Errorf("%s does not have the revision in project.lock: %w", from, err)
	}
	if newer == older {
		fmt.Println("update: the project is at the newest revision of the template already")
		return nil
	}
	// Before the projects are made, which takes a minute or two.
	branch := branchOf(newer)
	if _, err := git(ctx, project, nil, "rev-parse", "--verify", "--quiet",
		"refs/heads/"+branch); err == nil {
		return fmt.Errorf("the branch %s is there from an earlier update: merge it, or delete it "+
			"with git branch -D %[1]s from another branch", branch)
	}
	// base is what the project was made as; theirs is the same project from the newer revision, as its
	// child. The difference between the two is what the template has changed.
	// base has the revision as it is in the project, or the line would be a conflict.
	base, err := u.render(ctx, "base", l, older, "")
	if err != nil {
		return err
	}
	// With the newer revision in project.lock the next update begins there.
	l.Revision = newer
	theirs, err := u.render(ctx, "theirs", l, newer, base)
	if err != nil {
		return err
	}
	// It takes a second. A merge that is interrupted would be neither there nor taken back.
	return u.merge(context.WithoutCancel(ctx), newer, theirs)
}

// updater has the folder of the project, one for all that is made on the way, and the clone of the
// template in it.
type updater struct{ project, scratch, template string }

// revision is the commit of a revision of the template, which may be the name of one of its
// branches.
func (u updater) revision(ctx context.Context, name string) (string, error) {
	commit, err := git(
		ctx,
		u.template,
		nil,
		"rev-parse",
		"--verify",
		"--quiet",
		"--end-of-options",
		name+"^{commit}",
	)
	// A clone has the branches of its origin only under this name.
	if err != nil {
		commit, err = git(
			ctx,
			u.template,
			nil,
			"rev-parse",
			"--verify",
			"--quiet",
			"--end-of-options",
			"origin/"+name+"^{commit}",
		)
	}
	if err != nil {
		return "", fmt.Errorf("the template has no revision %s", name)
	}
	return commit, nil
}

// render makes the project from a revision of the template, with l as its project.lock, and returns
// it as a commit of the project's repository that is on no branch.
func (u updater) render(
	ctx context.Context,
	name string,
	l lock.Lock,
	revision, parent string,
) (string, error) {
	fmt.Printf("update: making the project from revision %s\n", revision[:12])
	checkout, made := filepath.Join(u.scratch, name+"-template"), filepath.Join(u.scratch, name)
	if _, err := git(ctx, u.template, nil, "worktree", "add", "--quiet", "--detach", checkout,
		revision); err != nil {
		return "", err
	}
	// The generator of that revision is used, since an older project may have another form.
	if _, err := os.Stat(filepath.Join(checkout, "tools", "new")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("revision %s of the template is from before make new", revision[:12])
	}
	// The answers of the project, with which the generator asks nothing.
	answers := filepath.Join(u.scratch, name+"-answers")
	if err := os.Mkdir(answers, 0o755); err != nil {
		return "", err
	}
	if err := l.Write(answers); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "go", "-C", filepath.Join(checkout, "tools"), "run", "./new",
		"-template", checkout, "-dir", made, "-lock", filepath.Join(answers, lock.Name))
	// A signal to this process alone has to end the generator too, which is a child of go run, and
	// what it has started: they write into the folder that is removed then.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = 10 * time.Second
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	// The generator has written the revision of its checkout.
	if err := l.Write(made); err != nil {
		return "", err
	}
	// A work tree and an index of its own, so that nothing of the project is touched.
	repository, err := git(ctx, u.project, nil, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return "", err
	}
	env := []string{
		"GIT_DIR=" + repository,
		"GIT_WORK_TREE=" + made,
		"GIT_INDEX_FILE=" + filepath.Join(u.scratch, name+"-index"),
	}
	// The objects go to the project's repository, where merge needs them; no branch names them. What
	// the user has git ignore everywhere belongs to the project all the same. A sparse checkout is
	// about the folders of the repository, and made has others.
	if _, err := git(ctx, made, env, "-c", "core.excludesFile=/dev/null", "-c",
		"core.sparseCheckout=false", "add", "--all"); err != nil {
		return "", err
	}
	tree, err := git(ctx, made, env, "write-tree")
	if err != nil {
		return "", err
	}
	// The project may be a folder of a larger repository, which is where the files are merged then.
	folder, err := git(ctx, u.project, nil, "rev-parse", "--show-prefix")
	if err != nil {
		return "", err
	}
	if folder != "" {
		for _, args := range [][]string{{"read-tree", "--empty"}, {"read-tree", "--prefix=" + folder, tree}} {
			if _, err := git(ctx, made, env, args...); err != nil {
				return "", err
			}
		}
		if tree, err = git(ctx, made, env, "write-tree"); err != nil {
			return "", err
		}
	}
	// commit-tree makes a commit without a branch, and needs no work tree.
	args := []string{
		"commit-tree",
		tree,
		"-m",
		"Update from the template\n\nIt is at revision " + revision + " now.",
	}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	return git(ctx, made, env, args...)
}

// branchOf is the branch of an update to a revision. Each has its own.
func branchOf(revision string) string { return "update-" + revision[:12] }

// merge applies what theirs differs from its parent to a new branch, as git cherry-pick does it:
// three ways, with the project as it is as the other side.
func (u updater) merge(ctx context.Context, revision, theirs string) error {
	branch := branchOf(revision)
	if _, err := git(ctx, u.project, nil, "switch", "--quiet", "--create", branch); err != nil {
		return err
	}
	_, err := git(
		ctx,
		u.project,
		nil,
		"-c",
		"commit.gpgsign=false",
		"cherry-pick",
		"--allow-empty",
		// An update that the project has already made by itself is a commit without a change, and no
		// error.
		"--keep-redundant-commits",
		theirs,
	)
	var conflicts, kept []string
	if err != nil {
		var failed error
		conflicts, kept, failed = u.settle(ctx)
		if failed == nil && len(conflicts) == 0 && len(kept) > 0 {
			_, err = git(ctx, u.project, nil, "-c", "commit.gpgsign=false", "cherry-pick", "--continue")
		}
		// Without conflicts it has failed for another reason.
		if failed != nil || err != nil && len(conflicts) == 0 {
			return errors.Join(err, failed, u.takeBack(ctx, branch))
		}
	}
	if len(kept) > 0 {
		fmt.Printf(
			"update: both have changed these, which stay as they were until make generate:\n\n  %s\n\n",
			strings.Join(kept, "\n  "),
		)
	}
	if err == nil {
		changed, err := git(ctx, u.project, nil, "diff", "--shortstat", "HEAD^")
		fmt.Printf(
			"update: merged without a conflict into the branch %s: %s\n\n  make generate tidy test lint     then commit what it has changed, and merge the branch\n",
			branch,
			strings.TrimSpace(changed),
		)
		return err
	}
	fmt.Printf(
		"update: both have changed the same lines of %d files, on the branch %s:\n\n  %s\n\n",
		len(conflicts),
		branch,
		strings.Join(conflicts, "\n  "),
	)
	fmt.Printf(`  edit them, and git add them
  git cherry-pick --continue
  make generate tidy test lint     then commit what it has changed, and merge the branch

or, to return to where you were:

  git cherry-pick --abort && git switch - && git branch -D %s
`, branch)
	return errors.New("there are conflicts to resolve")
}

// settle leaves generated files that are in conflict as the project has them, since make generate
// makes them anew. It returns the other files in conflict, and those that it has settled.
func (u updater) settle(ctx context.Context) (conflicts, kept []string, err error) {
	// Only conflicts leave files unmerged, and not the mistakes for which a cherry-pick fails as well.
	unmerged, err := git(ctx, u.project, nil, "diff", "--name-only", "--relative", "-z",
		"--diff-filter=U")
	if err != nil {
		return nil, nil, err
	}
	for file := range strings.SplitSeq(strings.TrimSuffix(unmerged, "\x00"), "\x00") {
		switch {
		case file == "":
		case generated(file):
			kept = append(kept, file)
			// It may be one that the project does not have any more.
			action := []string{"rm", "--quiet", "--force", "--", file}
			if _, err := git(ctx, u.project, nil, "cat-file", "-e", "HEAD:./"+file); err == nil {
				action = []string{"checkout", "--quiet", "HEAD", "--", file}
			}
			if _, err := git(ctx, u.project, nil, action...); err != nil {
				return conflicts, kept, err
			}
		default:
			conflicts = append(conflicts, file)
		}
	}
	return conflicts, kept, nil
}

// generated tells whether make generate writes a file of the project.
func generated(file string) bool {
	schema, _ := path.Match("charts/*/values.schema.json", file)
	return schema || file == "variables.go" || strings.HasPrefix(file, "gen/")
}

// takeBack ends a merge that failed for another reason than conflicts, such as a hook or a missing
// identity, so that it can be tried again.
func (u updater) takeBack(ctx context.Context, branch string) error {
	// There may be no cherry-pick under way any more.
	_, _ = git(ctx, u.project, nil, "cherry-pick", "--abort")
	_, err := git(ctx, u.project, nil, "checkout", "--quiet", "--force", "-")
	if err == nil {
		_, err = git(ctx, u.project, nil, "branch", "--quiet", "-D", branch)
	}
	return err
}

// git runs git in a folder, with variables besides those of the environment, and returns what it
// prints.
func git(ctx context.Context, folder string, env []string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	command := exec.CommandContext(ctx, "git", append([]string{"-C", folder}, args...)...)
	// No editor is opened for a message: there may be no terminal.
	command.Env = append(os.Environ(), append(env, "GIT_EDITOR=true")...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// remove removes a folder, of which what the go command keeps may be read-only.
func remove(folder string) {
	_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			// The module cache of the go command is read-only, and a folder has to be writable to be
			// emptied.
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(folder)
}
