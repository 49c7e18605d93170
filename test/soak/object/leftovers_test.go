package soak

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// timeToLive is how long servers keep what nobody continues. In a run of minutes they remove the one while the other
	// goes on, and are killed in the middle of it.
	timeToLive = time.Minute
	// tidyTime is more than it takes until nothing is left of what was abandoned: what is given up is known to have been
	// for another time to live.
	tidyTime = 4 * timeToLive
)

// retired tells whether an upload is so old that it might be forgotten while somebody works on it.
func (w *world) retired(j *job) bool {
	return w.model.invoke()-j.invoked > timeToLive-2*opTimeout
}

// inspectLeftovers wants the bucket to have the objects that are visible, and nothing else in the end.
func (w *world) inspectLeftovers() {
	var left []string
	for latest := time.Now().Add(tidyTime); time.Now().Before(latest); time.Sleep(time.Second) {
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

// leftovers returns all keys that are not part of an object.
func (w *world) leftovers() ([]string, error) {
	stored, err := w.stored()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{"uploads/check": true}
	for key, data := range stored {
		if !strings.HasPrefix(key, "objects/") {
			continue
		}
		var manifest struct {
			UploadID   string `json:"upload_id"`
			Generation int64
			Parts      []struct{ Key string }
		}
		if err := json.Unmarshal(data, &manifest); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		needed[key] = manifest.UploadID != "" // It is a tombstone otherwise.
		for _, part := range manifest.Parts {
			if _, ok := stored[part.Key]; !ok {
				return nil, fmt.Errorf("%s has lost %s", key, part.Key)
			}
			needed[part.Key] = true
			needed[fmt.Sprintf("parts/%s.%d.name", manifest.UploadID, manifest.Generation)] = true
		}
	}
	maps.DeleteFunc(stored, func(key string, _ []byte) bool { return needed[key] })
	var left []string
	for key := range stored {
		left = append(left, key)
	}
	return left, nil
}

// stored is the whole bucket, without the content of parts.
func (w *world) stored() (map[string][]byte, error) {
	if w.storm != nil {
		return w.storm.next.Keys(), nil
	}
	stored := map[string][]byte{}
	for _, folder := range []string{"objects", "uploads", "parts"} {
		err := filepath.WalkDir(filepath.Join(w.folder, folder), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			key, data := folder+"/"+e.Name(), []byte(nil)
			if folder == "objects" {
				data, err = os.ReadFile(path)
			}
			stored[key] = data
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return stored, nil
}
