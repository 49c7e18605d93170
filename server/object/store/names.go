package store

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxNames is how many names of a folder are kept in memory, which are some 10 MiB. A larger folder is read for each list.
	maxNames = 1 << 17
	// keptNames is how long: what others do to the folder is seen after that.
	keptNames = 2 * time.Second
	// someNames is how many are looked at together, so that the lock is not held meanwhile.
	someNames = 256
)

// folderNames is what a folder has, in byte order, so that a list does not read the whole folder: housekeeping makes one for each
// upload, and a client one for each page. It follows what the process writes and removes.
type folderNames struct {
	mu     sync.Mutex
	known  []string
	loaded bool
}

// some returns the first names that are not less than one.
func (n *folderNames) some(folder, from string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.known
	if !n.loaded {
		var err error
		if known, err = readNames(folder); err != nil {
			return nil, err
		}
		if len(known) <= maxNames {
			n.known, n.loaded = known, true
			time.AfterFunc(keptNames, n.forget)
		}
	}
	i, _ := slices.BinarySearch(known, from)
	return slices.Clone(known[i:min(i+someNames, len(known))]), nil
}

func (n *folderNames) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known, n.loaded = nil, false
}

// readNames leaves out files that are being written.
func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, tempSuffix) })
	slices.Sort(all)
	return all, nil
}

// add notes a file that is there now.
func (n *folderNames) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, found := slices.BinarySearch(n.known, name); n.loaded && !found {
		n.known = slices.Insert(n.known, i, name)
	}
}

// drop notes a file that has gone.
func (n *folderNames) drop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, found := slices.BinarySearch(n.known, name); found {
		n.known = slices.Delete(n.known, i, i+1)
	}
}
