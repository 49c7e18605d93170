package store

import (
	"context"
	"encoding/json"
	"errors"
)

// part is a piece of content in a blob of its own.
type part struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	CRC32C uint32 `json:"crc32c"`
}

// manifest is what makes an object visible: written in one piece, it names every part. Once the manifest is gone, or a
// tombstone in its place, nothing refers to the parts.
type manifest struct {
	Object
	UploadID string `json:"upload_id"`
	Parts    []part `json:"parts"`
}

func partEntries(parts []part) []entry {
	entries := make([]entry, len(parts))
	for i, p := range parts {
		entries[i] = entry{p.Key, p.Size}
	}
	return entries
}

// keys are all that may lie among the parts on behalf of the object.
func (m *manifest) keys() map[string]bool {
	keys := map[string]bool{m.key().ownerKey(): true}
	for _, p := range m.Parts {
		keys[p.Key] = true
	}
	return keys
}

func manifestKey(name string) string { return objectsFolder + encodeName(name) }

// readManifest returns ErrNotFound if nothing has this name.
func (s *Store) readManifest(ctx context.Context, name string) (*manifest, error) {
	m, _, err := s.findManifest(ctx, name)
	return m, err
}

// findManifest returns the version as well, whatever is there, if the bucket has versions. A tombstone is ErrNotFound.
func (s *Store) findManifest(ctx context.Context, name string) (m *manifest, version string, err error) {
	var data []byte
	if b, ok := s.bucket.(versioned); ok {
		data, version, err = b.getVersion(ctx, manifestKey(name))
	} else {
		data, err = s.bucket.get(ctx, manifestKey(name))
	}
	switch {
	case errors.Is(err, errNoKey):
		return nil, "", ErrNotFound
	case err != nil:
		return nil, "", during("read the manifest", err)
	}
	m, err = s.decodeManifest(name, data)
	return m, version, err
}

func (s *Store) decodeManifest(name string, data []byte) (*manifest, error) {
	var m struct {
		manifest
		tombstone
	}
	if err := s.decodeJSON(manifestKey(name), data, &m); err != nil {
		return nil, during("read the manifest", err)
	}
	if m.Deleted.Generation != 0 {
		return nil, ErrNotFound
	}
	var size int64
	for _, p := range m.Parts {
		size += p.Size
	}
	if m.Name != name || m.Size != size {
		return nil, s.corrupt("manifest of %q names %q and %d bytes in parts of %d", name, m.Name, m.Size, size)
	}
	return &m.manifest, nil
}

// maxCollisions bounds how often a change of a manifest is tried again. At each collision someone else has succeeded.
const maxCollisions = 100

// retryChanged calls f again as long as a process elsewhere changes the same manifest between its reading and its writing.
func retryChanged(f func() error) error {
	var err error
	for range maxCollisions {
		if err = f(); !errors.Is(err, errChanged) {
			break
		}
	}
	return err
}

// writeManifest writes m in place of the version that was found, if the bucket has versions.
func (s *Store) writeManifest(ctx context.Context, m *manifest, version string) error {
	if b, ok := s.bucket.(versioned); ok {
		return during("write the manifest", b.putVersion(ctx, manifestKey(m.Name), encodeJSON(m), version))
	}
	return during("write the manifest", s.bucket.put(ctx, manifestKey(m.Name), encodeJSON(m)))
}

// readJSON reads the record at key into v, and returns errNoKey or ErrCorrupt.
func (s *Store) readJSON(ctx context.Context, key string, v any) error {
	data, err := s.bucket.get(ctx, key)
	if err != nil {
		return err
	}
	return s.decodeJSON(key, data, v)
}

func (s *Store) decodeJSON(key string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return s.corrupt("decode %s: %w", key, err)
	}
	return nil
}

// encodeJSON encodes a record. All of them are made of types that cannot fail to encode.
func encodeJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
