package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"gocloud.dev/blob/memblob"

	"example.com/quartet/internal/crc32c"
)

func TestMain(m *testing.M) {
	useForwardProxy()
	goleak.VerifyTestMain(m)
}

// smallPart makes a few kilobytes an object of many parts.
const smallPart = 1000

func memBucket() bucket { return &blobBucket{blobs: memblob.OpenBucket(nil)} }

func openMem(t testing.TB) *Store { return openOn(t, memBucket()) }

func openOn(t testing.TB, b bucket) *Store {
	t.Helper()
	return newStore(b, Options{PartSize: smallPart})
}

func openFolder(t testing.TB, folder string) *Store {
	t.Helper()
	s, err := Open(t.Context(), "file://"+folder, Options{PartSize: smallPart})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func newID() string { return rand.Text() }

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

func newRandom(t testing.TB) *mathrand.Rand {
	t.Helper()
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

func openWriter(t testing.TB, s *Store, h Header) *Writer {
	t.Helper()
	w, err := s.OpenWriter(t.Context(), h)
	if err != nil {
		t.Fatalf("OpenWriter: %v", err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// send writes data[from:] in chunks of an odd size, and waits until the parts that are full are committed.
func send(t testing.TB, w *Writer, data []byte, from int64) {
	t.Helper()
	if err := trySend(w, data, from); err != nil {
		t.Fatal(err)
	}
}

func trySend(w *Writer, data []byte, from int64) error {
	for chunk := range slices.Chunk(data[from:], 333) {
		if err := w.WriteChunk(from, crc32c.Checksum(chunk), chunk); err != nil {
			return err
		}
		from += int64(len(chunk))
	}
	w.err = w.settle(0)
	return w.err
}

// upload makes an object of data.
func upload(t testing.TB, s *Store, name string, data []byte) Object {
	t.Helper()
	w := openWriter(t, s, Header{UploadID: newID(), Name: name})
	send(t, w, data, 0)
	return finish(t, w, Expect{})
}

func finish(t testing.TB, w *Writer, e Expect) Object {
	t.Helper()
	object, err := w.Finish(e)
	if err != nil {
		t.Fatalf("Finish: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return object
}

func download(t testing.TB, s *Store, name string) []byte {
	t.Helper()
	r, err := s.OpenReader(t.Context(), name, 0, 0, 0)
	if err != nil {
		t.Fatalf("OpenReader: %v", err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return data
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %v", err, want)
	}
}

func wantCommitted(t testing.TB, s *Store, id string, want int64) {
	t.Helper()
	u, err := s.GetUpload(t.Context(), id)
	if err != nil || u.Committed != want {
		t.Fatalf("GetUpload = %d, %v, want %d", u.Committed, err, want)
	}
}

func wantOffset(t testing.TB, err error, want int64) {
	t.Helper()
	var offset *OffsetError
	if !errors.As(err, &offset) || !errors.Is(err, ErrOffsetMismatch) || offset.Committed != want {
		t.Fatalf("error = %v, want an OffsetError at %d", err, want)
	}
}

func wantAbsent(t testing.TB, s *Store, name string) {
	t.Helper()
	_, err := s.Get(t.Context(), name)
	wantError(t, err, ErrNotFound)
}

// keysIn lists a folder of the bucket.
func keysIn(t testing.TB, s *Store, folder string) []string {
	t.Helper()
	entries, more, err := s.bucket.list(t.Context(), folder, "", 100_000)
	if err != nil || more {
		t.Fatalf("list: more %v, %v", more, err)
	}
	return keysOf(entries)
}

func sum(data []byte) []byte {
	hash := sha256.Sum256(data)
	return hash[:]
}

func ptr[T any](v T) *T { return &v }

// snapshot is every file below a folder, with its content.
func snapshot(t testing.TB, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, folder)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }

// faulty is a bucket that fails when a test says so.
type faulty struct {
	bucket
	// fail is asked before each operation: create, put, open, write, commit, get, reader, delete or discard.
	fail func(operation, key string) error
}

func (f *faulty) create(ctx context.Context, key string, data []byte) error {
	if err := f.fail("create", key); err != nil {
		return err
	}
	return f.bucket.create(ctx, key, data)
}

func (f *faulty) put(ctx context.Context, key string, data []byte) error {
	if err := f.fail("put", key); err != nil {
		return err
	}
	return f.bucket.put(ctx, key, data)
}

func (f *faulty) get(ctx context.Context, key string) ([]byte, error) {
	if err := f.fail("get", key); err != nil {
		return nil, err
	}
	return f.bucket.get(ctx, key)
}

func (f *faulty) delete(ctx context.Context, key string) error {
	if err := f.fail("delete", key); err != nil {
		return err
	}
	return f.bucket.delete(ctx, key)
}

func (f *faulty) discard(ctx context.Context, key string) error {
	if err := f.fail("discard", key); err != nil {
		return err
	}
	return f.bucket.discard(ctx, key)
}

func (f *faulty) writer(ctx context.Context, key string, size int64) (blobWriter, error) {
	if err := f.fail("open", key); err != nil {
		return nil, err
	}
	w, err := f.bucket.writer(ctx, key, size)
	return &faultyWriter{blobWriter: w, key: key, fail: f.fail}, err
}

type faultyWriter struct {
	blobWriter
	key  string
	fail func(operation, key string) error
}

func (w *faultyWriter) write(pieces [][]byte) error {
	if err := w.fail("write", w.key); err != nil {
		return err
	}
	return w.blobWriter.write(pieces)
}

func (w *faultyWriter) commit() error {
	if err := w.fail("commit", w.key); err != nil {
		w.abort()
		return err
	}
	return w.blobWriter.commit()
}
