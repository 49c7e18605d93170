package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestAnUploadContinuesAfterARestart(t *testing.T) {
	folder, data := t.TempDir(), randomBytes(t, 3700)
	h := Header{UploadID: newID(), Name: "n"}
	for _, end := range []int64{1900, 3100, 3700} {
		s := openFolder(t, folder)
		w := openWriter(t, s, h)
		send(t, w, data[:end], w.Committed())
		_ = w.Close()
		closeStore(t, s)
	}
	s := openFolder(t, folder)
	w := openWriter(t, s, h)
	if w.Committed() != 3700 {
		t.Errorf("Committed = %d", w.Committed())
	}
	object := finish(t, w, Expect{SHA256: sum(data)})
	closeStore(t, s)

	s = openFolder(t, folder)
	defer closeStore(t, s)
	if again := finish(t, openWriter(t, s, h), Expect{}); !sameObject(again, object) {
		t.Errorf("after another restart %+v, want %+v", again, object)
	}
	if !bytes.Equal(download(t, s, "n"), data) {
		t.Error("the content differs")
	}
}

// syncs replaces what a fileBucket calls to sync.
type syncs struct {
	mu     sync.Mutex
	calls  []string // "file parts", "folder uploads", …
	fail   string
	folder string
}

func countSyncs(t *testing.T) (*Store, *syncs) {
	t.Helper()
	folder := t.TempDir()
	s := openFolder(t, folder)
	t.Cleanup(func() { closeStore(t, s) })
	b, counted := s.bucket.(*fileBucket), &syncs{folder: folder}
	b.syncFile = func(f *os.File) error {
		if !strings.HasSuffix(f.Name(), tempSuffix) {
			t.Errorf("%s is synced when it has its name already", f.Name())
		}
		return errors.Join(counted.call("file", filepath.Dir(f.Name())), f.Sync())
	}
	b.syncFolder = func(path string) error { return errors.Join(counted.call("folder", path), syncFolder(path)) }
	return s, counted
}

func (c *syncs) call(what, path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := what + " " + filepath.Base(path)
	c.calls = append(c.calls, call)
	if call == c.fail {
		return syscall.EIO
	}
	return nil
}

func (c *syncs) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

func TestWhatIsAcknowledgedIsSynced(t *testing.T) {
	s, syncs := countSyncs(t)
	step := func(what string, want ...string) {
		t.Helper()
		if got := syncs.take(); !slices.Equal(got, want) {
			t.Errorf("%s synced %q, want %q", what, got, want)
		}
	}
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	step("a header", "file uploads", "folder uploads")
	send(t, w, make([]byte, 999), 0)
	step("nothing acknowledged")
	send(t, w, make([]byte, 1999), 999)
	step("a part", "file parts", "folder parts", "file uploads", "folder uploads")
	finish(t, w, Expect{})
	step("the last part, the seal, the manifest and the outcome",
		"file parts", "folder parts", "file uploads", "folder uploads",
		"file uploads", "folder uploads", "file objects", "folder objects", "file uploads", "folder uploads")
	if err := s.Delete(t.Context(), "n", 0); err != nil {
		t.Fatal(err)
	}
	step("a deletion", "folder objects")
}

func TestWhatCannotBeSyncedIsNotCommitted(t *testing.T) {
	for _, fail := range []string{"file parts", "folder parts", "file uploads", "folder uploads"} {
		t.Run(fail, func(t *testing.T) {
			s, syncs := countSyncs(t)
			h := Header{UploadID: newID(), Name: "n"}
			w := openWriter(t, s, h)
			send(t, w, make([]byte, 1000), 0)
			before := names(snapshot(t, syncs.folder))
			syncs.fail = fail
			wantError(t, trySend(w, make([]byte, 2000), 1000), syscall.EIO)
			_ = w.Close()
			wantCommitted(t, s, h.UploadID, 1000)
			if after := names(snapshot(t, syncs.folder)); !slices.Equal(before, after) {
				t.Errorf("files left behind: %q, before %q", after, before)
			}
			syncs.fail = ""
			w = openWriter(t, s, h)
			send(t, w, make([]byte, 2000), 1000)
			finish(t, w, Expect{})
		})
	}
	for _, fail := range []string{"file objects", "folder objects"} {
		t.Run(fail, func(t *testing.T) {
			s, syncs := countSyncs(t)
			upload(t, s, "n", []byte("the old object"))
			h := Header{UploadID: newID(), Name: "n"}
			w := openWriter(t, s, h)
			syncs.fail = fail
			_, err := w.Finish(Expect{})
			wantError(t, err, syscall.EIO)
			_ = w.Close()
			if u, err := s.GetUpload(t.Context(), h.UploadID); err != nil || u.Object != nil {
				t.Errorf("GetUpload = %+v, %v, want it unfinished", u, err)
			}
			// After a power cut the old object may be the one that is there, so it must be whole.
			if parts := keysIn(t, s, partsFolder); len(parts) != 1 {
				t.Errorf("parts = %q, want that of the old object", parts)
			}
			syncs.fail = ""
			finish(t, openWriter(t, s, h), Expect{})
		})
	}
}

func TestADeletionThatCannotBeSyncedKeepsTheParts(t *testing.T) {
	s, syncs := countSyncs(t)
	upload(t, s, "n", []byte("content"))
	syncs.fail = "folder objects"
	wantError(t, s.Delete(t.Context(), "n", 0), syscall.EIO)
	if parts := keysIn(t, s, partsFolder); len(parts) != 1 {
		t.Errorf("parts = %q", parts)
	}
}

func TestOneOfManyCreatesWins(t *testing.T) {
	s := openFolder(t, t.TempDir())
	defer closeStore(t, s)
	for round := range 200 {
		var group sync.WaitGroup
		var mu sync.Mutex
		key, won := uploadsFolder+newID(), []byte(nil)
		for i := range 4 {
			group.Go(func() {
				data := []byte{byte('a' + i)}
				err := s.bucket.create(t.Context(), key, data)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && won != nil:
					t.Errorf("round %d has several winners", round)
				case err == nil:
					won = data
				case !errors.Is(err, errExists):
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got, err := s.bucket.get(t.Context(), key); err != nil || !bytes.Equal(got, won) {
			t.Fatalf("there is %q, %v, want %q", got, err, won)
		}
	}
	if len(s.bucket.(*fileBucket).keys.locks) != 0 {
		t.Error("locks are left")
	}
}

func TestWhatAKilledProcessWasWritingIsSwept(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "with [brackets] *")
	s := openFolder(t, folder)
	upload(t, s, "n", []byte("content"))
	var left []string
	for _, key := range []string{objectsFolder + "c4", uploadsFolder + "x.header", partsFolder + "x"} {
		left = append(left, filepath.Join(folder, key+".18a2b3.tmp"))
	}
	for _, path := range left {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if objects, _, err := s.List(t.Context(), "", 0, ""); err != nil || len(objects) != 1 {
		t.Errorf("List = %v, %v", objects, err)
	}
	closeStore(t, s)
	s = openFolder(t, folder)
	defer closeStore(t, s)
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if got := download(t, s, "n"); string(got) != "content" {
		t.Errorf("content = %q", got)
	}
}

// Temporary files are swept only when the folder is opened, so nothing but a killed process may leave one.
func TestAWriterLeavesNoTemporaryFile(t *testing.T) {
	folder := t.TempDir()
	s := openFolder(t, folder)
	defer closeStore(t, s)
	b := s.bucket.(*fileBucket)
	for what, end := range map[string]func(w blobWriter, leave func()){
		"aborted":          func(w blobWriter, _ func()) { w.abort() },
		"without a sender": func(w blobWriter, leave func()) { leave(); _ = w.commit() },
		"not synced": func(w blobWriter, _ func()) {
			b.syncFile = func(*os.File) error { return errors.New("broken") }
			_ = w.commit()
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		w, err := b.writer(ctx, partsFolder+"p", 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(snapshot(t, folder)); n != 2 {
			t.Fatalf("%s: %d files, want the lock and the one being written", what, n)
		}
		end(w, leave)
		if left := names(snapshot(t, folder)); len(left) != 1 {
			t.Errorf("%s: it leaves %q", what, left)
		}
		leave()
		b.syncFile = (*os.File).Sync
	}
}

func TestAFolderHasOneOwner(t *testing.T) {
	folder := t.TempDir()
	s := openFolder(t, folder)
	_, err := Open(t.Context(), "file://"+folder, Options{})
	if err == nil || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second Open: %v", err)
	}
	// Another process as well, by the same kernel lock.
	if flock, lookErr := exec.LookPath("flock"); lookErr == nil {
		if err := exec.Command(flock, "-n", filepath.Join(folder, lockFile), "true").Run(); err == nil {
			t.Error("another process got the lock")
		}
	}
	closeStore(t, s)
	closeStore(t, openFolder(t, folder))
}

func TestAFolderThatCannotBeWrittenIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "file://"+file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open of a file: %v", err)
	}
	if os.Getuid() == 0 {
		t.Skip("nothing is read-only for root")
	}
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), "file://"+folder, Options{})
	if err == nil || !strings.Contains(err.Error(), "folder "+folder+" is not writable") {
		t.Errorf("Open of a read-only folder: %v", err)
	}
}

func TestMalformedURLsAreRefused(t *testing.T) {
	for _, url := range []string{"", "/folder", "file://", "file://folder", "file:///tmp/x?metadata=skip", "ftp://x", ":"} {
		if s, err := Open(t.Context(), url, Options{}); err == nil {
			t.Errorf("Open(%q) succeeded", url)
			_ = s.Close()
		}
	}
}

func TestOpenMakesTheFoldersDurable(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "b")
	s := openFolder(t, folder)
	defer closeStore(t, s)
	for _, name := range []string{objectsFolder, uploadsFolder, partsFolder} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		if err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if objects, _, err := s.List(t.Context(), "", 0, ""); err != nil || len(objects) != 0 {
			t.Errorf("List = %v, %v", objects, err)
		}
	})
	for failing, want := range map[error]error{syscall.EIO: syscall.EIO, syscall.EROFS: syscall.EROFS, syscall.ENOSPC: nil} {
		s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, _ string) error {
			if operation == "put" {
				return failing
			}
			return nil
		}})
		if err := s.Check(t.Context()); !errors.Is(err, want) {
			t.Errorf("Check when writing fails with %v: %v", failing, err)
		}
	}
}
