package folder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/enginetest"
)

func open(t testing.TB, root string) *Folder {
	t.Helper()
	f, err := Open(root, Options{PartBytes: enginetest.PartBytes, Quota: &engine.Quota{},
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (engine.Engine, func() engine.Engine) {
		root := t.TempDir()
		f := open(t, root)
		return f, func() engine.Engine {
			_ = f.Close()
			f = open(t, root)
			return f
		}
	})
}

func header(name string) engine.Header {
	return engine.Header{UploadID: enginetest.ID(), Name: name, ContentType: "text/plain"}
}

// free is for Expire: no upload is busy.
func free(string) (release func(), ok bool) { return func() {}, true }

// stored is what the quota has to count: every file below objects and uploads.
func stored(t *testing.T, root string) (total int64) {
	t.Helper()
	for _, folder := range []string{"objects", "uploads"} {
		below := filepath.Join(root, folder)
		err := filepath.WalkDir(below, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			total += info.Size() + engine.FileOverhead
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return total
}

func TestTheQuotaIsExactWhateverHappens(t *testing.T) {
	root := t.TempDir()
	f := open(t, root)
	check := func(what string) {
		t.Helper()
		if got, want := f.Quota.Held(), stored(t, root); got != want {
			t.Errorf("%s: %d are counted and %d stored", what, got, want)
		}
	}
	small, large := enginetest.Content(1000), enginetest.Content(3*enginetest.PartBytes+77)
	for range 2 {
		for _, content := range [][]byte{small, large, nil} {
			if _, err := enginetest.Put(t.Context(), f, header("o"), content); err != nil {
				t.Fatal(err)
			}
			check("put")
		}
	}
	for _, n := range []int{10, 30_000, 100_000} {
		h := header("left")
		u, err := enginetest.Send(t.Context(), f, h, large[:n], 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		check("left open")
		if n < enginetest.PartBytes {
			continue
		}
		state, err := f.Upload(t.Context(), h.UploadID)
		if err != nil {
			t.Fatal(err)
		}
		if u, err = enginetest.Send(t.Context(), f, h, large, state.Committed); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Finish(engine.Expect{CRC32C: new(uint32(1))}); !errors.Is(err,
			engine.ErrChecksumMismatch) {
			t.Fatal(err)
		}
		_ = u.Close()
		check("given up")
	}
	u, err := enginetest.Send(t.Context(), f, header("paused"), large[:100_000], 0)
	if err == nil {
		_, err = u.Pause()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	check("paused")
	_ = f.Close()
	f = open(t, root)
	check("opened again")
	if err := f.Delete(t.Context(), "o", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Expire(t.Context(), time.Now().Add(time.Hour), free); err != nil {
		t.Fatal(err)
	}
	check("removed")
	if held := f.Quota.Held(); held != 0 {
		t.Errorf("%d are counted of nothing", held)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := file.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedBlockIsNeverHandedOut(t *testing.T) {
	f := open(t, t.TempDir())
	content := enginetest.Content(20 << 20)
	if _, err := enginetest.Put(t.Context(), f, header("o"), content); err != nil {
		t.Fatal(err)
	}
	const at = 100_000
	flip(t, f.objectPath("o"), at)
	for _, buffer := range []int{1000, 32 << 10, 1 << 20} {
		for _, from := range []int64{0, 99_000, at, 98_304} {
			got, err := enginetest.Read(t.Context(), f, "o", 0, from, 0, buffer, true)
			if !errors.Is(err, engine.ErrCorrupt) || len(got) > 0 &&
				from+int64(len(got)) > at/blockBytes*blockBytes || !bytes.HasPrefix(content[from:], got) {
				t.Errorf("buffer %d, from %d: got %d bytes, %v", buffer, from, len(got), err)
			}
		}
		if got, err := enginetest.Read(t.Context(), f, "o", 0, 200_000, 0, buffer, true); err != nil ||
			!bytes.Equal(got, content[200_000:]) {
			t.Errorf("after the damage: %d bytes, %v", len(got), err)
		}
	}
}

func TestABrokenObjectCanBeDeletedAndHoldsNothingUp(t *testing.T) {
	for what, damage := range map[string]func(path string) error{
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"short": func(path string) error { return os.Truncate(path, 100) },
	} {
		root := t.TempDir()
		f := open(t, root)
		for _, name := range []string{"broken", "well"} {
			if _, err := enginetest.Put(t.Context(), f, header(name), enginetest.Content(1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := damage(f.objectPath("broken")); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		f = open(t, root)
		if _, err := f.Stat(t.Context(), "broken"); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), `"broken"`) {
			t.Errorf("%s: got %v", what, err)
		}
		if listed, _, err := f.List(t.Context(), "", "", 10); err != nil || len(listed) != 2 {
			t.Errorf("%s: listed %+v, %v", what, listed, err)
		}
		if _, err := f.Expire(t.Context(), time.Now().Add(time.Hour), free); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := f.Delete(t.Context(), "broken", 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAFolderHasOneOwner(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	if _, err := Open(root, Options{PartBytes: enginetest.PartBytes, Quota: &engine.Quota{},
		Log: slog.New(slog.DiscardHandler)}); err == nil ||
		!strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

// A process may die between any two changes of the folder: what was acknowledged is there, and
// nothing half-written.
func TestWhateverIsLeftOfAProcessIsRecovered(t *testing.T) {
	content := enginetest.Content(2*enginetest.PartBytes + 1000)
	h := header("o")
	root := t.TempDir()
	f := open(t, root)
	u, err := enginetest.Send(t.Context(), f, h, content, 0)
	if err == nil {
		_, err = u.Pause()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	_ = f.Close()
	log, err := os.ReadFile(f.logPath(h.UploadID))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(log) + 1 {
		if cut%7 != 0 && cut != len(log) {
			continue
		}
		if err := os.WriteFile(f.logPath(h.UploadID), log[:cut], privateMode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.dataPath(h.UploadID), append(bytes.Clone(content), "more"...),
			privateMode); err != nil {
			t.Fatal(err)
		}
		f = open(t, root)
		state, err := f.Upload(t.Context(), h.UploadID)
		if errors.Is(err, engine.ErrUploadNotFound) {
			state, err = engine.State{}, nil
		}
		if err != nil || state.Committed > int64(len(content)) || cut == len(log) &&
			state.Committed != int64(len(content)) {
			t.Fatalf("cut at %d: %+v, %v", cut, state, err)
		}
		if got, want := f.Quota.Held(), stored(t, root); got != want {
			t.Errorf("cut at %d: %d are counted and %d stored", cut, got, want)
		}
		if u, err = enginetest.Send(t.Context(), f, h, content, state.Committed); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if _, err := u.Finish(engine.Expect{}); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		_ = u.Close()
		if got, err := enginetest.Read(t.Context(), f, "o", 0, 0, 0, 1<<20, true); err != nil ||
			!bytes.Equal(got, content) {
			t.Fatalf("cut at %d: %d bytes, %v", cut, len(got), err)
		}
		if got, want := f.Quota.Held(), stored(t, root); got != want {
			t.Errorf("cut at %d: %d are counted and %d stored", cut, got, want)
		}
		if err := f.Delete(t.Context(), "o", 0); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
}

// unreadable puts a link to itself in the place of a file, which fails to open with ELOOP, and
// returns what undoes that.
func unreadable(t *testing.T, path string) (readable func()) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "kept")
	if err := errors.Join(os.Rename(path, kept), os.Symlink(path, path)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Rename(kept, path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnUploadThatCannotBeReadAtTheStartIsKept(t *testing.T) {
	root, h, content := t.TempDir(), header("o"), enginetest.Content(200_000)
	f := open(t, root)
	u, err := enginetest.Send(t.Context(), f, h, content[:150_000], 0)
	if err == nil {
		_, err = u.Pause()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	_ = f.Close()
	readable := unreadable(t, f.logPath(h.UploadID))
	f = open(t, root)
	if _, err := f.Upload(t.Context(), h.UploadID); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("looked up: %v", err)
	}
	if _, err := f.Begin(t.Context(), h, false); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("began: %v", err)
	}
	readable()
	if u, err = enginetest.Send(t.Context(), f, h, content, 150_000); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(content))}); err != nil {
		t.Error(err)
	}
	_ = u.Close()
}

// cutLog leaves only the header of an upload's log.
func cutLog(t *testing.T, f *Folder, id string) {
	t.Helper()
	log, err := os.ReadFile(f.logPath(id))
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := bytes.Cut(log, []byte("\n"))
	if err := os.Truncate(f.logPath(id), int64(len(header))+1); err != nil {
		t.Fatal(err)
	}
}

// The log has lost its last line, so that only the object tells that the upload is finished.
func TestAFinishedUploadWhoseObjectCannotBeReadDoesNotBeginAnew(t *testing.T) {
	f := open(t, t.TempDir())
	h, content := header("o"), enginetest.Content(1000)
	if _, err := enginetest.Put(t.Context(), f, h, content); err != nil {
		t.Fatal(err)
	}
	cutLog(t, f, h.UploadID)
	readable := unreadable(t, f.objectPath("o"))
	if _, err := f.Begin(t.Context(), h, false); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("began: %v", err)
	}
	readable()
	if state, err := f.Upload(t.Context(), h.UploadID); err != nil || state.Object == nil {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestAnObjectThatCannotBeReadCanBeReplaced(t *testing.T) {
	f := open(t, t.TempDir())
	content := enginetest.Content(1000)
	if _, err := enginetest.Put(t.Context(), f, header("o"), content[:10]); err != nil {
		t.Fatal(err)
	}
	unreadable(t, f.objectPath("o"))
	if _, err := f.Begin(t.Context(), header("o"), false); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("without the first byte: %v", err)
	}
	if _, err := enginetest.Put(t.Context(), f, header("o"), content); err != nil {
		t.Fatal(err)
	}
	if got, err := enginetest.Read(t.Context(), f, "o", 0, 0, 0, 1<<20, true); err != nil ||
		!bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestAnErrorOfReadingAFolderIsNotTakenForItsEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, privateMode); err != nil {
		t.Fatal(err)
	}
	if err := eachName(file, func(string) error { return nil }); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("the names: %v", err)
	}
	if size, err := fileSize(filepath.Join(file, "below")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("the size: %d, %v", size, err)
	}
}

// bigUpload makes an upload of so many bytes as its files have it after whole parts of 8 MiB, and
// leaves a hole in place of the content.
func bigUpload(t *testing.T, f *Folder, size int64) engine.Header {
	t.Helper()
	const part = 8 << 20
	h := header("o")
	sums := encodeSums(slices.Repeat([]uint32{crc32c.Checksum(make([]byte, blockBytes))},
		part/blockBytes))
	log := line{Header: &h, Generation: 1, CreateTime: time.Now()}.encode()
	for at := int64(0); at < size; at += part {
		log = append(log, line{Size: at + part, First: at / blockBytes, Sums: sums}.encode()...)
	}
	err := errors.Join(os.WriteFile(f.logPath(h.UploadID), log, privateMode),
		os.WriteFile(f.dataPath(h.UploadID), nil, privateMode), os.Truncate(f.dataPath(h.UploadID), size))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// most runs what takes memory, and returns how much the heap has grown meanwhile.
func most(t *testing.T, run func()) (grown int64) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapInuse)
	}
	runtime.GC()
	before, done := heap(), make(chan struct{})
	go func() { defer close(done); run() }()
	for {
		select {
		case <-done:
			return grown
		case <-time.After(time.Millisecond):
			grown = max(grown, heap()-before)
		}
	}
}

// A log of 64 GiB has 12 MiB, and as many checksums 8 MiB.
func TestALookUpOfABigUploadTakesLittleMemory(t *testing.T) {
	f := open(t, t.TempDir())
	const size = 64 << 30
	h := bigUpload(t, f, size)
	grown := most(t, func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if state, err := f.Upload(t.Context(), h.UploadID); err != nil || state.Committed != size {
					t.Errorf("%+v, %v", state, err)
				}
			})
		}
		all.Wait()
	})
	if t.Logf("the heap has grown by %d KiB", grown>>10); grown > 16<<20 {
		t.Errorf("8 look-ups take %d MiB", grown>>20)
	}
}

func TestAFinishOfABigUploadTakesLittleMemory(t *testing.T) {
	f := open(t, t.TempDir())
	f.syncFile = func(*os.File) error { return nil }
	const size = 64 << 30
	h := bigUpload(t, f, size)
	grown := most(t, func() {
		u, err := f.Begin(t.Context(), h, false)
		if err != nil {
			t.Error(err)
			return
		}
		defer u.Close()
		more := enginetest.Content(1000)
		if err := u.Append([][]byte{more}, crc32c.Checksum(more)); err != nil {
			t.Error(err)
		}
		if o, err := u.Finish(engine.Expect{Size: new(int64(size + 1000))}); err != nil {
			t.Errorf("%+v, %v", o, err)
		}
	})
	if t.Logf("the heap has grown by %d KiB", grown>>10); grown > 4<<20 {
		t.Errorf("a finish takes %d MiB", grown>>20)
	}
	got, err := enginetest.Read(t.Context(), f, "o", 0, size-100_000, 0, 1<<20, true)
	if err != nil || len(got) != 101_000 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// A process that dies when all is written but the name has an upload that is not finished.
func TestAnObjectWithoutItsNameIsNotFinished(t *testing.T) {
	for _, size := range []int{1000, 3 * enginetest.PartBytes} {
		root, h, content := t.TempDir(), header("o"), enginetest.Content(size)
		f := open(t, root)
		if _, err := enginetest.Put(t.Context(), f, h, content); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(f.objectPath("o"), f.dataPath(h.UploadID)); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		f = open(t, root)
		state, err := f.Upload(t.Context(), h.UploadID)
		if state.Object != nil || err != nil && !errors.Is(err, engine.ErrUploadNotFound) {
			t.Fatalf("%d bytes: %+v, %v", size, state, err)
		}
		u, err := enginetest.Send(t.Context(), f, h, content, state.Committed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Finish(engine.Expect{}); err != nil {
			t.Fatal(err)
		}
		_ = u.Close()
		if got, err := enginetest.Read(t.Context(), f, "o", 0, 0, 0, 1<<20, true); err != nil ||
			!bytes.Equal(got, content) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		if got, want := f.Quota.Held(), stored(t, root); got != want {
			t.Errorf("%d bytes: %d are counted and %d stored", size, got, want)
		}
	}
}

// Each sync fails, one after the other, as on a full or broken disk: nothing that is not durable is
// acknowledged, and the upload goes on.
func TestASyncThatFailsLosesNothing(t *testing.T) {
	for at := 0; ; at++ {
		f := open(t, t.TempDir())
		h, content := header("o"), enginetest.Content(3*enginetest.PartBytes+10)
		synced := 0
		f.syncFile = func(file *os.File) error {
			if synced++; synced == at+1 {
				return syscall.ENOSPC
			}
			return file.Sync()
		}
		_, err := enginetest.Put(t.Context(), f, h, content)
		if err == nil {
			return // There is no such sync.
		}
		if !errors.Is(err, engine.ErrStoreFull) {
			t.Fatalf("sync %d: %v", at, err)
		}
		if _, err := f.Stat(t.Context(), "o"); !errors.Is(err, engine.ErrNotFound) {
			t.Fatalf("sync %d: the object is there, %v", at, err)
		}
		state, err := f.Upload(t.Context(), h.UploadID)
		if err != nil && !errors.Is(err, engine.ErrUploadNotFound) {
			t.Fatal(err)
		}
		u, err := enginetest.Send(t.Context(), f, h, content, state.Committed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Finish(engine.Expect{}); err != nil {
			t.Fatal(err)
		}
		_ = u.Close()
		if got, err := enginetest.Read(t.Context(), f, "o", 0, 0, 0, 1<<20, true); err != nil ||
			!bytes.Equal(got, content) {
			t.Fatalf("sync %d: %d bytes, %v", at, len(got), err)
		}
		if got, want := f.Quota.Held(), stored(t, f.root); got != want {
			t.Errorf("sync %d: %d are counted and %d stored", at, got, want)
		}
	}
}

// failing lets all syncs of a folder fail, until mend is called.
func failing(s *syncer) (mend func()) {
	r := &round{err: syscall.EIO}
	r.once.Do(func() {})
	s.next = r
	return func() { s.next = nil }
}

func TestNothingIsSaidToBeDoneBeforeTheFolderIsSynced(t *testing.T) {
	f := open(t, t.TempDir())
	h, content := header("o"), enginetest.Content(1000)
	whole := engine.Expect{CRC32C: new(crc32c.Checksum(content))}
	mend := failing(&f.objects)
	if _, err := enginetest.Put(t.Context(), f, h, content); !errors.Is(err, syscall.EIO) {
		t.Fatalf("put: %v", err)
	}
	// The object has its name, which a power cut could take back.
	if _, err := f.Upload(t.Context(), h.UploadID); !errors.Is(err, syscall.EIO) {
		t.Errorf("looked up: %v", err)
	}
	if _, err := f.Begin(t.Context(), h, false); !errors.Is(err, syscall.EIO) {
		t.Errorf("began again: %v", err)
	}
	mend()
	u, err := f.Begin(t.Context(), h, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(whole); err != nil {
		t.Error(err)
	}
	_ = u.Close()
	// Also where only the object tells of the upload.
	if err := os.Remove(f.logPath(h.UploadID)); err != nil {
		t.Fatal(err)
	}
	mend = failing(&f.objects)
	if _, err := f.Begin(t.Context(), h, false); !errors.Is(err, syscall.EIO) {
		t.Errorf("began again without a log: %v", err)
	}
	if o, err := enginetest.Put(t.Context(), f, h, content); !errors.Is(err, syscall.EIO) {
		t.Errorf("put again without a log: %+v, %v", o, err)
	}
	for range 2 { // The second time it is not there.
		if err := f.Delete(t.Context(), "o", 0); !errors.Is(err, syscall.EIO) {
			t.Errorf("deleted: %v", err)
		}
	}
	mend()
	if err := f.Delete(t.Context(), "o", 0); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// The look-up is made when a commit has written its line, and not synced it.
func TestNothingIsSaidToBeCommittedBeforeTheLogIsSynced(t *testing.T) {
	f := open(t, t.TempDir())
	h := header("o")
	syncs := 0
	f.syncFile = func(file *os.File) error {
		if !strings.HasSuffix(file.Name(), logSuffix) {
			return file.Sync()
		}
		if syncs++; syncs == 1 {
			if state, err := f.Upload(t.Context(), h.UploadID); !errors.Is(err, syscall.EIO) {
				t.Errorf("looked up: %+v, %v", state, err)
			}
		}
		return syscall.EIO
	}
	u, err := enginetest.Send(t.Context(), f, h, enginetest.Content(10_000), 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := u.Pause(); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("paused at %d, %v", n, err)
	}
	_ = u.Close()
	if syncs != 2 {
		t.Errorf("the log was synced %d times", syncs)
	}
}

// A stream breaks while a commit is under way that then fails. What was not committed is gone, so
// that the sender may also finish before the end of it.
func TestACommitThatFailsAtTheEndOfAStreamLeavesNothingBehind(t *testing.T) {
	for at := 1; ; at++ {
		f := open(t, t.TempDir())
		h, content := header("o"), enginetest.Content(3*enginetest.PartBytes+10)
		var synced atomic.Int64
		f.syncFile = func(file *os.File) error {
			if synced.Add(1) == int64(at) {
				return syscall.EIO
			}
			return file.Sync()
		}
		u, err := enginetest.Send(t.Context(), f, h, content, 0)
		if err == nil {
			_ = u.Close() // It fails, or the sending did.
		}
		if synced.Load() < int64(at) {
			return // There is no such sync.
		}
		if got, want := f.Quota.Held(), stored(t, f.root); got != want {
			t.Errorf("sync %d: %d are counted and %d stored", at, got, want)
		}
		state, err := f.Upload(t.Context(), h.UploadID)
		if err != nil && !errors.Is(err, engine.ErrUploadNotFound) {
			t.Fatal(err)
		}
		shorter := content[:min(state.Committed+1, int64(len(content)))]
		if u, err = enginetest.Send(t.Context(), f, h, shorter, state.Committed); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(shorter))}); err != nil {
			t.Fatal(err)
		}
		_ = u.Close()
		got, err := enginetest.Read(t.Context(), f, "o", 0, 0, 0, 1<<20, true)
		if err != nil || !bytes.Equal(got, shorter) {
			t.Fatalf("sync %d: %d bytes, %v", at, len(got), err)
		}
		if got, want := f.Quota.Held(), stored(t, f.root); got != want {
			t.Errorf("sync %d: %d are counted and %d stored", at, got, want)
		}
	}
}

// The disk has lost lines of the log while the upload goes on.
func TestAnUploadWithoutAllChecksumsIsNotFinished(t *testing.T) {
	f := open(t, t.TempDir())
	h := header("o")
	u, err := enginetest.Send(t.Context(), f, h, enginetest.Content(3*enginetest.PartBytes+10), 0)
	if err == nil {
		_, err = u.Pause()
	}
	if err != nil {
		t.Fatal(err)
	}
	cutLog(t, f, h.UploadID)
	if _, err := u.Finish(engine.Expect{}); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	_ = u.Close() // Its data are dropped.
	if _, err := f.Stat(t.Context(), "o"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the object is there, %v", err)
	}
}

// To read all bytes again for their SHA-256 takes long, and is for a sender that waits for it.
func TestAFinishEndsWithItsSender(t *testing.T) {
	f := open(t, t.TempDir())
	h, content := header("o"), enginetest.Content(3*enginetest.PartBytes)
	sum := sha256.Sum256(content)
	h.Expect.SHA256 = sum[:]
	ctx, cancel := context.WithCancel(t.Context())
	u, err := enginetest.Send(ctx, f, h, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := u.Finish(engine.Expect{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = u.Close() // It says the same.
	state, err := f.Upload(t.Context(), h.UploadID)
	if err != nil || state.Committed != int64(len(content)) {
		t.Fatalf("%+v, %v", state, err)
	}
	if u, err = enginetest.Send(t.Context(), f, h, content, state.Committed); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(engine.Expect{}); err != nil {
		t.Error(err)
	}
	_ = u.Close()
}

func TestAPanicOfACommitIsAnErrorOfItsUpload(t *testing.T) {
	f := open(t, t.TempDir())
	f.syncFile = func(*os.File) error { panic("a bug") }
	_, err := enginetest.Put(t.Context(), f, header("o"), enginetest.Content(3*enginetest.PartBytes))
	if err == nil || !strings.Contains(err.Error(), "panic: a bug") {
		t.Errorf("got %v", err)
	}
	if got, want := f.Quota.Held(), stored(t, f.root); got != want {
		t.Errorf("%d are counted and %d stored", got, want)
	}
}

// The files of a whole page go after its names were looked up.
func TestAListGoesOnBehindNamesThatHaveGone(t *testing.T) {
	f := open(t, t.TempDir())
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if _, err := enginetest.Put(t.Context(), f, header(name), nil); err != nil {
			t.Fatal(err)
		}
		if name < "e" {
			if err := os.Remove(f.objectPath(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	listed, more, err := f.List(t.Context(), "", "", 2)
	if err != nil || more || len(listed) != 1 || listed[0].Name != "e" {
		t.Errorf("listed %+v, more %v, %v", listed, more, err)
	}
}

// A page costs what it shows, however many objects there are.
func TestAListOfManyObjectsTakesNoLongerThanItsPages(t *testing.T) {
	f := open(t, t.TempDir())
	const many = 20_000
	for i := range many {
		name := fmt.Sprintf("object %06d", i)
		if err := os.WriteFile(f.objectPath(name), nil, privateMode); err != nil {
			t.Fatal(err)
		}
		f.names.add(name)
	}
	began, listed, after := time.Now(), 0, ""
	for more := true; more; {
		page, next, err := f.List(t.Context(), "", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		listed, more, after = listed+len(page), next, page[len(page)-1].Name
	}
	t.Logf("%d objects in %v", listed, time.Since(began))
	if listed != many || time.Since(began) > 5*time.Second {
		t.Errorf("%d of %d listed in %v", listed, many, time.Since(began))
	}
}

func TestWritersTogetherNeverExceedAQuota(t *testing.T) {
	root := t.TempDir()
	f := open(t, root)
	const limit = 1 << 20
	f.Quota.Limit = limit
	var refused, made atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 6 {
				_, err := enginetest.Put(t.Context(), f, header(fmt.Sprint(i, j)), enginetest.Content(100_000))
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, engine.ErrQuotaExceeded):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, want := f.Quota.Held(), stored(t, root); got != want || got > limit+limit/100 {
		t.Errorf("%d are counted and %d stored of %d", got, want, limit)
	}
	if made.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d objects were made and %d refused", made.Load(), refused.Load())
	}
}

// TestAnUploadIsFoundWhileItBecomesAnObject replaces each object at once, so that only the log
// tells of its upload.
func TestAnUploadIsFoundWhileItBecomesAnObject(t *testing.T) {
	f := open(t, t.TempDir())
	f.syncFile = func(*os.File) error { return nil } // So that more happens at once.
	content := enginetest.Content(2 * enginetest.PartBytes)
	for range 100 {
		h := header("o")
		u, err := enginetest.Send(t.Context(), f, h, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Pause(); err != nil {
			t.Fatal(err)
		}
		finished := make(chan error)
		go func() {
			_, err := u.Finish(engine.Expect{})
			_, again := enginetest.Put(t.Context(), f, header("o"), nil)
			finished <- errors.Join(err, again, u.Close())
		}()
		for done := false; !done; {
			if _, err := f.Upload(t.Context(), h.UploadID); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-finished:
				if done = true; err != nil {
					t.Fatal(err)
				}
			default:
			}
		}
	}
}
