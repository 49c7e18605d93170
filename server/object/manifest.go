package object

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// part is a piece of content in a blob of its own.
type part struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	CRC32C uint32 `json:"crc32c"`
}

// manifest is what makes an object visible: written in one piece, it names every part. Once the manifest is gone,
// nothing refers to the parts.
type manifest struct {
	Object
	UploadID string `json:"upload_id"`
	Parts    []part `json:"parts"`
}

func partKeys(parts []part) []string {
	keys := make([]string, len(parts))
	for i, p := range parts {
		keys[i] = p.Key
	}
	return keys
}

func manifestKey(name string) string { return objectsFolder + encodeName(name) }

// readManifest returns ErrNotFound if nothing has this name.
func (s *Store) readManifest(ctx context.Context, name string) (*manifest, error) {
	var m manifest
	err := s.readJSON(ctx, manifestKey(name), &m)
	switch {
	case errors.Is(err, errNoKey):
		return nil, ErrNotFound
	case err != nil:
		return nil, during("read the manifest", err)
	}
	var size int64
	for _, p := range m.Parts {
		size += p.Size
	}
	if m.Name != name || m.Size != size {
		return nil, fmt.Errorf("%w: manifest of %q names %q and %d bytes in parts of %d", ErrCorrupt, name, m.Name, m.Size, size)
	}
	return &m, nil
}

// readJSON reads the record at key into v, and returns errNoKey or ErrCorrupt.
func (s *Store) readJSON(ctx context.Context, key string, v any) error {
	data, err := s.bucket.get(ctx, key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: decode %s: %w", ErrCorrupt, key, err)
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
