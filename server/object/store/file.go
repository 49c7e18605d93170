package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
)

// fileBucket is a bucket in a folder that one process owns. It adds to fileblob what that does not promise: a write
// is synced, first the file and then the folder that names it, before it is acknowledged; of several conditional
// creates one succeeds; and no temporary file is ever listed.
type fileBucket struct {
	blobBucket
	root string
	lock *os.File
	keys keyed
	// names are those of each folder.
	names map[string]*folderNames

	// Replaced by tests, to count and to fail.
	syncFile   func(*os.File) error
	syncFolder func(path string) error
}

func (b *fileBucket) path(key string) string { return filepath.Join(b.root, filepath.FromSlash(key)) }

// create holds the key's lock until the outcome is durable, because of fileblob's own condition there are several
// winners.
func (b *fileBucket) create(ctx context.Context, key string, data []byte) error {
	defer b.keys.lock(key)()
	found, err := b.blobBucket.get(ctx, key)
	switch {
	case errors.Is(err, errNoKey):
		return b.write(ctx, key, data, true)
	case err != nil:
		return err
	case bytes.Equal(found, data):
		return nil
	default:
		return errExists
	}
}

// put is not undone when the folder cannot be synced: what was there before is gone by then. The caller sees an error
// and writes the same again.
func (b *fileBucket) put(ctx context.Context, key string, data []byte) error {
	defer b.keys.lock(key)()
	return b.write(ctx, key, data, false)
}

func (b *fileBucket) write(ctx context.Context, key string, data []byte, fresh bool) error {
	w, err := b.open(ctx, key, fresh)
	if err != nil {
		return err
	}
	if err := w.write([][]byte{data}); err != nil {
		w.abort()
		return err
	}
	return w.commit()
}

func (b *fileBucket) writer(ctx context.Context, key string, _ int64) (blobWriter, error) {
	return b.open(ctx, key, true)
}

// open keeps hold of the file behind the blob, so that commit can sync it.
func (b *fileBucket) open(ctx context.Context, key string, fresh bool) (*fileWriter, error) {
	w := &fileWriter{bucket: b, key: key, path: b.path(key), fresh: fresh}
	var err error
	w.cloudWriter, err = b.blobBucket.open(ctx, key, &blob.WriterOptions{
		BeforeWrite: func(as func(any) bool) error {
			if !as(&w.file) {
				return errors.New("fileblob gives no access to its file")
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// fileWriter writes to a temporary file beside its path. If fresh, there is nothing at the path before.
type fileWriter struct {
	*cloudWriter
	bucket *fileBucket
	file   *os.File
	key    string
	path   string
	fresh  bool
}

// commit syncs the bytes before the file gets its name, and the name before it returns. A name that cannot be made
// durable is taken back.
func (w *fileWriter) commit() error {
	if err := w.bucket.syncFile(w.file); err != nil {
		w.abort()
		return fmt.Errorf("sync file: %w", err)
	}
	if err := w.cloudWriter.commit(); err != nil {
		return err
	}
	names, name := w.bucket.of(w.key)
	names.add(name)
	err := w.bucket.syncFolder(filepath.Dir(w.path))
	if err == nil {
		return nil
	}
	if w.fresh {
		err = errors.Join(err, os.Remove(w.path))
		names.drop(name)
	}
	return fmt.Errorf("sync folder: %w", err)
}

// get waits for a write of the same key that is under way, so that nobody acts on what is not durable yet.
func (b *fileBucket) get(ctx context.Context, key string) ([]byte, error) {
	defer b.keys.share(key)()
	return b.blobBucket.get(ctx, key)
}

func (b *fileBucket) delete(ctx context.Context, key string) error {
	defer b.keys.lock(key)()
	if err := b.blobBucket.delete(ctx, key); err != nil {
		return err
	}
	names, name := b.of(key)
	names.drop(name)
	if err := b.syncFolder(filepath.Dir(b.path(key))); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func (b *fileBucket) discard(ctx context.Context, key string) error {
	names, name := b.of(key)
	names.drop(name) // Whether that succeeds or not: a list that misses it for a moment does no harm.
	return b.blobBucket.discard(ctx, key)
}

// list reads the folder itself. fileblob looks at each file after it has read the whole folder, and fails if one has
// gone in the meantime, as temporary files do all the time.
func (b *fileBucket) list(_ context.Context, prefix, after string, limit int) ([]entry, bool, error) {
	folder, _ := path.Split(prefix)
	var entries []entry
	for from := strings.TrimPrefix(max(prefix, after), folder); ; {
		names, err := b.names[folder].some(b.path(folder), from)
		if err != nil {
			return nil, false, err
		}
		for _, name := range names {
			key := folder + name
			switch {
			case !strings.HasPrefix(key, prefix):
				return entries, false, nil
			case key == after:
				continue
			case len(entries) == limit:
				return entries, true, nil
			}
			info, err := os.Lstat(b.path(key))
			if errors.Is(err, fs.ErrNotExist) { // It has gone since.
				continue
			}
			if err != nil {
				return nil, false, err
			}
			entries = append(entries, entry{key, info.Size()})
		}
		if len(names) < someNames {
			return entries, false, nil
		}
		from = names[len(names)-1] + "\x00"
	}
}

// of returns the names of the folder that a key is in, and its own.
func (b *fileBucket) of(key string) (*folderNames, string) {
	folder, name := path.Split(key)
	return b.names[folder], name
}

func (b *fileBucket) close() error {
	return errors.Join(b.blobBucket.close(), b.lock.Close())
}
