package store

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/server/object/store/s3test"
)

func deleteObject(t *testing.T, s *Store, name string) {
	t.Helper()
	if err := s.Delete(t.Context(), name, 0); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

// A replica is about to write the manifest of an upload, where it found no object. Before it does, another one finishes
// the same upload, and the object is deleted.
func TestAFinishThatIsOvertakenBringsNoDeletedObjectBack(t *testing.T) {
	for what, before := range map[string]struct {
		first, meanwhile func(t *testing.T, s *Store)
	}{
		"where there was nothing": {func(*testing.T, *Store) {}, func(*testing.T, *Store) {}},
		"where another was deleted": {
			func(t *testing.T, s *Store) { upload(t, s, "n", []byte("old")); deleteObject(t, s, "n") },
			func(*testing.T, *Store) {},
		},
		"where a tombstone was swept": {
			func(t *testing.T, s *Store) { upload(t, s, "n", []byte("old")); deleteObject(t, s, "n") },
			func(t *testing.T, s *Store) { sweepStore(t, s, later(), 0) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakeS3(t)
			s, elsewhere := openURL(t, f.url()), openURL(t, f.url())
			before.first(t, elsewhere)
			h, data := Header{UploadID: newID(), Name: "n"}, randomBytes(t, 1500)
			w := openWriter(t, s, h)
			send(t, w, data, 0)
			if _, err := w.Pause(); err != nil {
				t.Fatal(err)
			}
			var once sync.Once
			f.Before = func(_ http.ResponseWriter, r *http.Request, key string) bool {
				if r.Method == http.MethodPut && key == manifestKey("n") {
					once.Do(func() {
						overtakeInside(f, func() {
							before.meanwhile(t, elsewhere)
							finish(t, openWriter(t, elsewhere, h), Expect{})
							deleteObject(t, elsewhere, "n")
						})
					})
				}
				return false
			}
			finish(t, w, Expect{SHA256: sum(data)})
			wantAbsent(t, s, "n")
			wantParts(t, s, 0)
		})
	}
}

func TestADeletedNameIsLikeOneThatNeverWas(t *testing.T) {
	s3Services(t, func(t *testing.T, url string) {
		s := openURL(t, url)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			upload(t, s, name, []byte(name))
			if name != "e" {
				deleteObject(t, s, name)
			}
		}
		wantAbsent(t, s, "a")
		wantError(t, s.Delete(t.Context(), "a", 0), ErrNotFound)
		objects, next, err := s.List(t.Context(), "", 2, "")
		if err != nil || len(objects) != 1 || objects[0].Name != "e" || next != "" {
			t.Errorf("List = %v, %q, %v, want e alone, on the first page", objects, next, err)
		}
		upload(t, s, "a", []byte("again"))
		if got := download(t, s, "a"); string(got) != "again" {
			t.Errorf("content = %q", got)
		}
	})
}

func TestATombstoneIsSweptWhenItIsOldAndNothingElseIs(t *testing.T) {
	s3Services(t, func(t *testing.T, url string) {
		s := openURL(t, url)
		upload(t, s, "empty", nil) // The smallest manifest there is.
		upload(t, s, "old", []byte("old"))
		deleteObject(t, s, "old")
		boundary := time.Now()
		upload(t, s, "new", []byte("new"))
		deleteObject(t, s, "new")
		wantKeys(t, s, objectsFolder, 3)
		sweepStore(t, s, boundary, 0)
		wantKeys(t, s, objectsFolder, 2)
		sweepStore(t, s, later(), 0)
		wantKeys(t, s, objectsFolder, 1)
		download(t, s, "empty")
	})
}

func TestASweepDoesNotTakeANewObjectForATombstone(t *testing.T) {
	f := newFakeS3(t)
	s, elsewhere := openURL(t, f.url()), openURL(t, f.url())
	upload(t, s, "n", []byte("old"))
	deleteObject(t, s, "n")
	var once sync.Once
	f.Before = func(_ http.ResponseWriter, r *http.Request, key string) bool {
		if r.Method == http.MethodDelete && key == manifestKey("n") {
			once.Do(func() { overtakeInside(f, func() { upload(t, elsewhere, "n", []byte("new")) }) })
		}
		return false
	}
	sweepStore(t, s, later(), 0)
	if got := download(t, s, "n"); string(got) != "new" {
		t.Errorf("content = %q", got)
	}
}

func TestForeignKeysAmongTheObjectsAreNotSwept(t *testing.T) {
	s := openURL(t, newFakeS3(t).url())
	for _, name := range []string{"not encoded", encodeName("n")} {
		if err := s.bucket.put(t.Context(), objectsFolder+name, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	sweepStore(t, s, later(), 0)
	wantKeys(t, s, objectsFolder, 2)
}

func TestADeletionWhoseAnswerIsLostSucceedsOnce(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	upload(t, s, "n", []byte("data"))
	var lost atomic.Bool
	f.After = func(_ http.ResponseWriter, r *http.Request, key string) bool {
		if r.Method == http.MethodPut && key == manifestKey("n") && !lost.Swap(true) {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	deleteObject(t, s, "n")
	if !lost.Load() {
		t.Error("no answer was lost")
	}
	wantAbsent(t, s, "n")
	wantParts(t, s, 0)
}

// A full store is cured by deleting: anything in a folder, and what is old enough where replicas need a tombstone.
func TestAFullStoreDeletes(t *testing.T) {
	full := atomic.Bool{}
	f := newFakeS3(t)
	f.Before = func(w http.ResponseWriter, r *http.Request, _ string) bool {
		refuse := full.Load() && r.Method == http.MethodPut
		if refuse {
			_, _ = io.Copy(io.Discard, r.Body)
			s3test.Fail(w, http.StatusInsufficientStorage, "InsufficientStorage")
		}
		return refuse
	}
	inMemory := &faulty{bucket: memBucket(), fail: func(operation, _ string) error {
		if full.Load() && (operation == "create" || operation == "put") {
			return syscall.ENOSPC
		}
		return nil
	}}
	for engine, s := range map[string]*Store{"s3": openURL(t, f.url()), "mem": openOn(t, inMemory)} {
		t.Run(engine, func(t *testing.T) {
			full.Store(false)
			forgotten(t, s, "forgotten", randomBytes(t, 1500))
			upload(t, s, "remembered", randomBytes(t, 1500))
			full.Store(true)
			deleteObject(t, s, "forgotten")
			wantParts(t, s, 2)
			if engine == "s3" {
				wantError(t, s.Delete(t.Context(), "remembered", 0), ErrStoreFull)
				full.Store(false)
			}
			deleteObject(t, s, "remembered")
			wantAbsent(t, s, "forgotten")
			wantAbsent(t, s, "remembered")
			wantParts(t, s, 0)
		})
	}
}

func TestADeletionThatCannotBeRecordedIsRefused(t *testing.T) {
	s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, key string) error {
		if operation == "create" && strings.HasSuffix(key, ".complete") {
			return syscall.ENOSPC
		}
		return nil
	}})
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	if _, err := w.Finish(Expect{}); !errors.Is(err, ErrStoreFull) {
		t.Fatalf("Finish = %v", err)
	}
	// The object is visible, but a sender that finishes again would bring it back.
	wantError(t, s.Delete(t.Context(), "n", 0), ErrStoreFull)
	if _, err := s.Get(t.Context(), "n"); err != nil {
		t.Error(err)
	}
}

func TestAListTellsManifestsAndTombstonesApart(t *testing.T) {
	latest := time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	if size := len(encodeJSON(&tombstone{deletion{Generation: math.MaxInt64, Time: latest}})); size > maxTombstoneBytes {
		t.Errorf("a tombstone may have %d bytes", size)
	}
	smallest := &manifest{Object: Object{Name: "n", Generation: 1, ContentType: "a"}, UploadID: strings.Repeat("x", minUploadIDBytes)}
	if size := len(encodeJSON(smallest)); size <= maxTombstoneBytes {
		t.Errorf("a manifest may have no more than %d bytes", size)
	}
}
