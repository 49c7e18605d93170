package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing has to change before an edit is complete: editors and git write
	// several files.
	quiet = 150 * time.Millisecond
	// most is how long an edit may take.
	most = 2 * time.Second
)

// An edit is a set of files that changed together.
type edit struct {
	files []string  // with slashes, relative to the root
	lost  bool      // whether more may have changed than what is known
	at    time.Time // the first one
}

// watch sends edits that concern a target. The channel is closed when the context ends or the
// watcher does.
func watch(ctx context.Context, root string) (<-chan edit, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	if _, err := add(watcher, root, root); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", root, err), watcher.Close())
	}
	// The channel has no room: while a round runs, changes wait in the watcher and become one edit.
	edits := make(chan edit)
	go func() {
		defer close(edits)
		defer watcher.Close()
		for {
			next, ok := collect(ctx, watcher, root)
			if !ok {
				return
			}
			// An edit of a document, for example, concerns no target.
			if !next.lost && len(targets(next.files)) == 0 {
				continue
			}
			select {
			case edits <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	return edits, nil
}

// add watches a folder with all below, since fsnotify watches single folders only, and returns the
// files in it. What is gone meanwhile is left out: editors create files and remove them at once.
func add(watcher *fsnotify.Watcher, root, folder string) (files []string, err error) {
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !entry.IsDir():
			files = append(files, filepath.ToSlash(name))
			return nil
		case ignored(filepath.ToSlash(name)):
			return filepath.SkipDir
		}
		if err := watcher.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	return files, err
}

// collect waits for a change, and for those that come soon after it.
func collect(ctx context.Context, watcher *fsnotify.Watcher, root string) (next edit, ok bool) {
	// Both are nil, and so never ready, before the first change.
	var pause, end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return edit{}, false
		case <-pause:
			return next, true
		case <-end:
			return next, true
		case err, open := <-watcher.Errors:
			if !open {
				return edit{}, false
			}
			// The watcher's queue was too short, for example: more may have changed than is known.
			say("watching: %v", err)
			return edit{lost: true, at: time.Now()}, true
		case event, open := <-watcher.Events:
			if !open {
				return edit{}, false
			}
			files := changed(watcher, root, event)
			if len(files) == 0 {
				continue
			}
			// A file may be there several times; targets takes each target once.
			next.files = append(next.files, files...)
			// Each change begins the pause anew, and end bounds how long that can go on.
			pause = time.After(quiet)
			if end == nil {
				next.at, end = time.Now(), time.After(most)
			}
		}
	}
}

// changed returns the files that an event is about: for a new folder, all in it.
func changed(watcher *fsnotify.Watcher, root string, event fsnotify.Event) []string {
	name, err := filepath.Rel(root, event.Name)
	name = filepath.ToSlash(name)
	// Only a change of mode or times: indexers and backups do that.
	if err != nil || event.Op == fsnotify.Chmod || ignored(name) {
		return nil
	}
	// A folder that is moved here has files already, for which no events come.
	if info, err := os.Stat(event.Name); err == nil && info.IsDir() && event.Has(fsnotify.Create) {
		files, err := add(watcher, root, event.Name)
		if err != nil {
			say("watching: %v", err)
		}
		return slices.DeleteFunc(files, ignored)
	}
	return []string{name}
}

// ignored tells whether an edit of a file or of what is in a folder changes nothing that runs:
// tests, what is hidden, and the files that editors put beside those they edit.
func ignored(name string) bool {
	if name == "." {
		return false
	}
	// A hidden folder hides all that is in it, such as .git.
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasPrefix(part, "#") || part == "testdata" {
			return true
		}
	}
	for _, suffix := range []string{"~", ".swp", ".tmp", "_test.go"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
