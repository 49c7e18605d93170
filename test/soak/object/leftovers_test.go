package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// timeToLive is how long servers keep what no client continues. In a run of minutes they remove
	// the one while the other goes on, and are killed in the middle of it.
	timeToLive = time.Minute
	// cleanupTime is more than it takes until nothing is left of what was abandoned: what is given
	// up is known to have been for another time to live.
	cleanupTime = 4 * timeToLive
)

// retired tells whether an upload is so old that servers might remove it while a worker continues
// it.
func (w *topology) retired(j *job) bool {
	return w.model.invoke()-j.invoked > timeToLive-2*opTimeout
}

// inspectLeftovers wants the bucket to have the objects that are visible, and nothing else in the
// end.
func (w *topology) inspectLeftovers() {
	var left []string
	for latest := time.Now().Add(cleanupTime); time.Now().Before(latest); time.Sleep(time.Second) {
		var err error
		if left, err = w.leftovers(); err != nil {
			w.broken(err.Error())
			return
		}
		if len(left) == 0 {
			return
		}
	}
	w.broken(fmt.Sprintf("%d keys are left that nothing needs, such as %s", len(left), left[0]))
}

// leftovers returns what is neither an object nor what servers check by.
func (w *topology) leftovers() ([]string, error) {
	if w.store != nil {
		left := w.store.next.Uploads()
		for key := range w.store.next.Keys() {
			if !strings.HasPrefix(key, "objects/") && key != "check" {
				left = append(left, key)
			}
		}
		return left, nil
	}
	var left []string
	entries, err := os.ReadDir(filepath.Join(w.folder, "uploads"))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	return left, err
}
