package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// The folders of a bucket. They are fixed, because on a file system each new folder must be made durable as well.
const (
	objectsFolder = "objects/"
	uploadsFolder = "uploads/"
	partsFolder   = "parts/"
)

var (
	errNoKey  = errors.New("no such key")
	errExists = errors.New("key exists already")
	// errChanged means that there is another version at a key than was found.
	errChanged = errors.New("key was changed meanwhile")
	// errUnsure means that a write failed in a way that leaves open whether it will yet take effect.
	errUnsure = errors.New("outcome unknown")
)

// bucket is what this package needs of a storage engine. Whatever it says is written is durable when the call returns,
// and whatever it refuses is not visible, at any time, to any process. It is the place where engines differ.
type bucket interface {
	// create writes data at key if nothing is there, and returns errExists otherwise. Of any number of callers with
	// different data one succeeds; a caller with the data that is there succeeds as well. After any other error
	// than errExists and errUnsure nothing was written.
	create(ctx context.Context, key string, data []byte) error
	// put writes data at key, whatever is there.
	put(ctx context.Context, key string, data []byte) error
	// writer streams to a key that nobody else uses. Nothing is there before its commit returns. size is how many bytes
	// there will be, as far as that can be told, and 0 otherwise.
	writer(ctx context.Context, key string, size int64) (blobWriter, error)
	// get returns what is at key, or errNoKey.
	get(ctx context.Context, key string) ([]byte, error)
	// reader reads length bytes at key, from offset, all of which must exist, or returns errNoKey.
	reader(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// delete removes key, for good once it returns. It is no error if nothing is there.
	delete(ctx context.Context, key string) error
	// discard removes key as delete does, except that a power cut may bring it back. It is for what nothing refers to.
	// If nothing is there it may return errNoKey, so that what is removed twice is counted once.
	discard(ctx context.Context, key string) error
	// list returns at most limit blobs with prefix whose keys are greater than after, in byte order, and whether there
	// are more.
	list(ctx context.Context, prefix, after string, limit int) (entries []entry, more bool, err error)
	close() error
}

// entry is a blob as a list tells of it.
type entry struct {
	key  string
	size int64 // in bytes
}

func keysOf(entries []entry) []string {
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.key
	}
	return keys
}

// versioned is a bucket that several processes share, and which lets each of them know when another was there
// before it. A version is what getVersion returns, or "" for nothing at the key.
type versioned interface {
	getVersion(ctx context.Context, key string) (data []byte, version string, err error)
	// putVersion is put, and deleteVersion is delete, if there is that version, and errChanged otherwise.
	putVersion(ctx context.Context, key string, data []byte, version string) error
	deleteVersion(ctx context.Context, key, version string) error
}

// blobWriter is a blob under way: any number of writes, then either commit or abort, once.
type blobWriter interface {
	// write appends bytes, and is done with them when it returns.
	write(pieces [][]byte) error
	// commit makes the blob durable and visible. After an error it is neither, unless the error is errUnsure.
	commit() error
	// abort leaves nothing behind.
	abort()
}

// blobBucket is a bucket of any engine of gocloud's that is durable and atomic by itself.
type blobBucket struct{ blobs *blob.Bucket }

func (b *blobBucket) create(ctx context.Context, key string, data []byte) error {
	err := b.write(ctx, key, data, &blob.WriterOptions{IfNotExist: true})
	if err == nil {
		return nil
	}
	found, readErr := b.get(ctx, key)
	return settle(data, err, found, readErr)
}

// settle decides a conditional create that failed. Whatever the error, what is there now tells who won. An engine may
// report a connection reset to the loser, and may report "exists already" to the winner, when the answer to its first
// attempt was lost. If nothing is there although the engine said so, someone was there and has removed it since; if
// what is there cannot be told, the reason why counts as well.
func settle(data []byte, err error, found []byte, readErr error) error {
	switch gone := errors.Is(readErr, errNoKey); {
	case gone && errors.Is(err, errChanged):
		return errExists
	case gone:
		return fmt.Errorf("%w: %w", errUnsure, err)
	case readErr != nil:
		return fmt.Errorf("%w: %w: %w", errUnsure, err, readErr)
	case bytes.Equal(found, data):
		return nil
	default:
		return errExists
	}
}

func (b *blobBucket) put(ctx context.Context, key string, data []byte) error {
	return b.write(ctx, key, data, &blob.WriterOptions{})
}

func (b *blobBucket) write(ctx context.Context, key string, data []byte, opts *blob.WriterOptions) error {
	w, err := b.open(ctx, key, opts)
	if err != nil {
		return err
	}
	if err := w.write([][]byte{data}); err != nil {
		w.abort()
		return err
	}
	return w.commit()
}

func (b *blobBucket) writer(ctx context.Context, key string, _ int64) (blobWriter, error) {
	return b.open(ctx, key, &blob.WriterOptions{})
}

// open begins a blob. The content type is named because the engine would hold back the first bytes to guess it.
func (b *blobBucket) open(ctx context.Context, key string, opts *blob.WriterOptions) (*cloudWriter, error) {
	ctx, cancel := context.WithCancel(ctx)
	opts.ContentType = defaultContentType
	w, err := b.blobs.NewWriter(ctx, key, opts)
	if err != nil {
		cancel()
		return nil, err
	}
	return &cloudWriter{Writer: w, cancel: cancel}, nil
}

// cloudWriter is a blobWriter on a blob.Writer, which discards what was written only if its context is cancelled.
type cloudWriter struct {
	*blob.Writer
	cancel context.CancelFunc
}

func (w *cloudWriter) write(pieces [][]byte) error {
	for _, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (w *cloudWriter) commit() error {
	defer w.cancel()
	return w.Close()
}

func (w *cloudWriter) abort() {
	w.cancel()
	_ = w.Close() // Reports the cancellation.
}

func (b *blobBucket) get(ctx context.Context, key string) ([]byte, error) {
	data, err := b.blobs.ReadAll(ctx, key)
	return data, missing(err)
}

func (b *blobBucket) reader(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.blobs.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return nil, missing(err)
	}
	return r, nil
}

func (b *blobBucket) delete(ctx context.Context, key string) error {
	err := missing(b.blobs.Delete(ctx, key))
	if errors.Is(err, errNoKey) {
		return nil
	}
	return err
}

func (b *blobBucket) discard(ctx context.Context, key string) error {
	return missing(b.blobs.Delete(ctx, key))
}

// list relies on the page token being the key to continue after, as memblob has it. An engine with opaque tokens
// needs its own way to begin after a key.
func (b *blobBucket) list(ctx context.Context, prefix, after string, limit int) ([]entry, bool, error) {
	token := blob.FirstPageToken
	if after != "" {
		token = []byte(after)
	}
	page, next, err := b.blobs.ListPage(ctx, token, limit, &blob.ListOptions{Prefix: prefix})
	if err != nil {
		return nil, false, err
	}
	entries := make([]entry, 0, len(page))
	for _, found := range page {
		entries = append(entries, entry{found.Key, found.Size})
	}
	return entries, len(next) > 0, nil
}

func (b *blobBucket) close() error { return b.blobs.Close() }

func missing(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return fmt.Errorf("%w: %w", errNoKey, err)
	}
	return err
}
