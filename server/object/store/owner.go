package store

import (
	"context"
	"strconv"
	"strings"
)

// ownerRecord leads from parts to the name of their object, once the upload is forgotten that they came by. It lies
// among them, behind the last one.
type ownerRecord struct {
	Name string `json:"name"`
}

// uploadKey names an upload for ever: its id may be used again once it is forgotten, but not its generation.
type uploadKey struct {
	id         string
	generation int64
}

const ownerSuffix = "name" // It sorts behind every index.

func (k uploadKey) ownerKey() string {
	return generationPrefix(partsFolder, k.id, k.generation) + ownerSuffix
}

func isOwnerKey(key string) bool { return strings.HasSuffix(key, "."+ownerSuffix) }

func (m *manifest) key() uploadKey { return uploadKey{m.UploadID, m.Generation} }

// parseKey returns the upload that a key <folder><id>.<generation>.<anything> belongs to.
func parseKey(folder, key string) (upload uploadKey, ok bool) {
	element, inside := strings.CutPrefix(key, folder)
	id, rest, _ := strings.Cut(element, ".")
	digits, _, found := strings.Cut(rest, ".")
	generation, err := strconv.ParseInt(digits, 10, 64)
	return uploadKey{id, generation}, inside && found && err == nil
}

// recordOwner writes the same whoever does it. An object without parts needs none.
func (s *Store) recordOwner(ctx context.Context, m *manifest) error {
	if len(m.Parts) == 0 {
		return nil
	}
	err := s.bucket.put(ctx, m.key().ownerKey(), encodeJSON(&ownerRecord{Name: m.Name}))
	return during("record the owner of parts", err)
}

// readOwner returns errNoKey if the upload is not forgotten yet, or never became an object.
func (s *Store) readOwner(ctx context.Context, upload uploadKey) (name string, err error) {
	var record ownerRecord
	if err := s.readJSON(ctx, upload.ownerKey(), &record); err != nil {
		return "", err
	}
	if checkName(record.Name) != nil {
		return "", s.corrupt("%s is %q", upload.ownerKey(), record.Name)
	}
	return record.Name, nil
}
