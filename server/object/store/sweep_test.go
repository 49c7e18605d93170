package store

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// later is a time before which everything happened.
func later() time.Time { return time.Now().Add(time.Second) }

func sweepStore(t *testing.T, s *Store, before time.Time, want int) {
	t.Helper()
	if removed, err := s.Sweep(t.Context(), before); removed != want || err != nil {
		t.Fatalf("Sweep = %d, %v, want %d", removed, err, want)
	}
}

// forgotten makes an object whose upload is forgotten.
func forgotten(t *testing.T, s *Store, name string, data []byte) {
	t.Helper()
	upload(t, s, name, data)
	expire(t, s, later(), 1)
}

// storePart stores a part to which nothing leads, as a writer does that dies before it commits the record.
func storePart(t *testing.T, s *Store, upload uploadKey) {
	t.Helper()
	if err := s.bucket.put(t.Context(), newPartKey(upload.id, upload.generation, 0), []byte("lost")); err != nil {
		t.Fatal(err)
	}
}

func TestPartsThatCouldNotBeRemovedAreSwept(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data, away := randomBytes(t, 2500), true
		for _, name := range []string{"replaced", "deleted", "kept"} {
			forgotten(t, s, name, data)
		}
		working := s.bucket
		s.bucket = &faulty{bucket: working, fail: func(operation, key string) error {
			if away && operation == "discard" && strings.HasPrefix(key, partsFolder) {
				return ErrUnavailable
			}
			return nil
		}}
		upload(t, s, "replaced", data)
		if err := s.Delete(t.Context(), "deleted", 0); err != nil {
			t.Fatal(err)
		}
		wantParts(t, s, 12)
		_, err := s.Sweep(t.Context(), later())
		wantError(t, err, ErrUnavailable)
		away = false
		sweepStore(t, s, time.Now().Add(-time.Hour), 0)
		sweepStore(t, s, later(), 6)
		wantParts(t, s, 6)
		wantKeys(t, s, partsFolder, 7) // With the owner of those that were kept.
		sweepStore(t, s, later(), 0)
		for _, name := range []string{"replaced", "kept"} {
			if !bytes.Equal(download(t, s, name), data) {
				t.Errorf("the content of %q differs", name)
			}
		}
	})
}

func TestAPartThatNeverBelongedToAnythingIsSwept(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		forgotten(t, s, "n", randomBytes(t, 1500))
		storePart(t, s, uploadKey{newID(), time.Now().UnixNano()})
		m, err := s.readManifest(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		storePart(t, s, m.key()) // Of a writer that lost the race for a part of this object.
		sweepStore(t, s, later(), 2)
		wantParts(t, s, 2)
		download(t, s, "n")
	})
}

func TestAnUploadUnderWayIsNotSwept(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data := randomBytes(t, 2500)
		w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
		send(t, w, data, 0)
		sweepStore(t, s, later(), 0)
		finish(t, w, Expect{SHA256: sum(data)})
		sweepStore(t, s, later(), 0)
		if !bytes.Equal(download(t, s, "n"), data) {
			t.Error("the content differs")
		}
	})
}

// The record of the owner may be lost, or never written, as by an earlier release.
func TestAnObjectWhoseOwnerIsNotOnRecordIsNotSwept(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data := randomBytes(t, 1500)
		forgotten(t, s, "n", data)
		m, err := s.readManifest(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.bucket.delete(t.Context(), m.key().ownerKey()); err != nil {
			t.Fatal(err)
		}
		storePart(t, s, uploadKey{newID(), time.Now().UnixNano()})
		sweepStore(t, s, later(), 1)
		if !bytes.Equal(download(t, s, "n"), data) {
			t.Error("the content differs")
		}
		wantKeys(t, s, partsFolder, 3) // The owner is on record again.
	})
}

func TestNothingIsSweptOnSuspicionWhileAManifestCannotBeRead(t *testing.T) {
	s := openMem(t)
	forgotten(t, s, "n", randomBytes(t, 1500))
	storePart(t, s, uploadKey{newID(), time.Now().UnixNano()})
	if err := s.bucket.put(t.Context(), manifestKey("damaged"), []byte("{")); err != nil {
		t.Fatal(err)
	}
	removed, err := s.Sweep(t.Context(), later())
	if removed != 0 {
		t.Errorf("%d parts were removed", removed)
	}
	wantError(t, err, ErrCorrupt)
	wantParts(t, s, 3)
	upload(t, s, "damaged", nil)
	sweepStore(t, s, later(), 1)
}

// Between two looks of a sweep another replica forgets the upload, or replaces the object.
func TestASweepThatIsOvertakenRemovesNothingVisible(t *testing.T) {
	for what, overtake := range map[string]func(t *testing.T, s *Store){
		"forgotten": func(t *testing.T, s *Store) { expire(t, s, later(), 1) },
		"replaced":  func(t *testing.T, s *Store) { upload(t, s, "n", []byte("second")) },
		"deleted": func(t *testing.T, s *Store) {
			if err := s.Delete(t.Context(), "n", 0); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, after := range []string{".name", ".header", objectsFolder} {
			t.Run(what+" after "+after, func(t *testing.T) {
				shared, once := memBucket(), sync.Once{}
				elsewhere := openOn(t, shared)
				upload(t, elsewhere, "n", []byte("first"))
				if after == objectsFolder && what != "forgotten" {
					expire(t, elsewhere, later(), 1) // Only then a sweep looks there.
				}
				s := openOn(t, &overtaken{bucket: shared, after: after, run: func() {
					once.Do(func() { overtake(t, elsewhere) })
				}})
				if _, err := s.Sweep(t.Context(), later()); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Get(t.Context(), "n"); err == nil {
					download(t, s, "n")
				}
			})
		}
	}
}

// overtaken lets something happen after a key was read.
type overtaken struct {
	bucket
	after string
	run   func()
}

func (o *overtaken) get(ctx context.Context, key string) ([]byte, error) {
	data, err := o.bucket.get(ctx, key)
	if strings.Contains(key, o.after) {
		o.run()
	}
	return data, err
}

func TestASweepCostsTwoReadsForEachObject(t *testing.T) {
	f := newFakeS3(t)
	s := openURL(t, f.url())
	const objects = 20
	for range objects {
		upload(t, s, newID(), randomBytes(t, 3500))
	}
	expire(t, s, later(), objects)
	requests, mu := map[string]int{}, sync.Mutex{}
	f.Before = func(_ http.ResponseWriter, r *http.Request, key string) bool {
		mu.Lock()
		defer mu.Unlock()
		folder, _, _ := strings.Cut(key, "/")
		requests[r.Method+" "+folder]++
		return false
	}
	sweepStore(t, s, later(), 0)
	want := map[string]int{"GET ": 2, "GET parts": objects, "GET objects": objects}
	for what, n := range requests {
		if n != want[what] {
			t.Errorf("%s: %d requests, want %d", what, n, want[what])
		}
	}
}

// A writer was silent for so long that the upload was removed, even its seal. It must not bring the upload back, because
// a sweep may be removing its parts at this moment.
func TestAWriterThatWasTakenForDeadCannotFinish(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		here, elsewhere := openOn(t, shared), openOn(t, shared)
		w := openWriter(t, elsewhere, Header{UploadID: newID(), Name: "n"})
		send(t, w, make([]byte, 500), 0)
		expire(t, here, later(), 1)
		expire(t, here, later(), 0)
		wantKeys(t, here, uploadsFolder, 0)
		_, err := w.Finish(Expect{})
		wantError(t, err, ErrWriterReplaced)
		_ = w.Close()
		wantAbsent(t, here, "n")
		sweepStore(t, here, later(), 1)
		expire(t, here, later(), 0)
		wantKeys(t, here, partsFolder, 0)
		wantKeys(t, here, uploadsFolder, 0)
	})
}

func TestTheSealOfAnAbandonedUploadOutlivesItByATimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openMem(t)
		w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
		send(t, w, make([]byte, 1500), 0)
		_ = w.Close()
		time.Sleep(2 * houseTTL)
		for _, want := range []int{1, 0, 0} {
			expire(t, s, time.Now().Add(-houseTTL), want)
			wantKeys(t, s, uploadsFolder, 1)
		}
		time.Sleep(houseTTL + time.Second)
		expire(t, s, time.Now().Add(-houseTTL), 0)
		wantKeys(t, s, uploadsFolder, 0)
	})
}

func TestAnUploadIsKnownAsLongAsItsPartsAreThere(t *testing.T) {
	broken, fails := errors.New("broken"), true
	s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, key string) error {
		if fails && operation == "discard" && strings.HasPrefix(key, partsFolder) {
			return broken
		}
		return nil
	}})
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	send(t, w, make([]byte, 1500), 0)
	_ = w.Close()
	upload(t, s, "other", nil)
	removed, err := s.Expire(t.Context(), later())
	wantError(t, err, broken)
	if removed != 1 {
		t.Errorf("%d were removed, want the one that could be", removed)
	}
	sweepStore(t, s, later(), 0)
	wantParts(t, s, 2)
	fails = false
	expire(t, s, later(), 1)
	wantParts(t, s, 0)
}

func TestASweepEndsWithItsContext(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		storePart(t, s, uploadKey{newID(), time.Now().UnixNano()})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		removed, err := s.Sweep(ctx, later())
		wantError(t, err, context.Canceled)
		if removed != 0 {
			t.Errorf("%d parts were removed", removed)
		}
		_, err = s.Expire(ctx, later())
		wantError(t, err, context.Canceled)
		wantParts(t, s, 1)
	})
}
