package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func expire(t *testing.T, s *Store, before time.Time, want int) {
	t.Helper()
	if removed, err := s.Expire(t.Context(), before); removed != want || err != nil {
		t.Fatalf("Expire = %d, %v, want %d", removed, err, want)
	}
}

func wantKeys(t *testing.T, s *Store, folder string, want int) {
	t.Helper()
	if keys := keysIn(t, s, folder); len(keys) != want {
		t.Errorf("%d keys in %s, want %d: %q", len(keys), folder, want, keys)
	}
}

// wantParts counts parts, without the records of their owners.
func wantParts(t *testing.T, s *Store, want int) {
	t.Helper()
	if parts := slices.DeleteFunc(keysIn(t, s, partsFolder), isOwnerKey); len(parts) != want {
		t.Errorf("%d parts, want %d: %q", len(parts), want, parts)
	}
}

func TestAbandonedUploadsExpireWithTheirParts(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		h := Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, s, h)
		send(t, w, make([]byte, 2500), 0)
		if _, err := w.Pause(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		expire(t, s, time.Now().Add(-time.Hour), 0)
		wantCommitted(t, s, h.UploadID, 2500)
		expire(t, s, time.Now().Add(time.Second), 1)
		_, err := s.GetUpload(t.Context(), h.UploadID)
		wantError(t, err, ErrUploadNotFound)
		wantKeys(t, s, partsFolder, 0)
		wantKeys(t, s, uploadsFolder, 1) // The seal, against writers elsewhere.
		expire(t, s, time.Now().Add(time.Second), 0)
		wantKeys(t, s, uploadsFolder, 0)

		w = openWriter(t, s, h)
		if w.Committed() != 0 {
			t.Errorf("Committed = %d", w.Committed())
		}
		finish(t, w, Expect{})
	})
}

func TestAnObjectOutlivesTheMemoryOfItsUpload(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data := randomBytes(t, 2500)
		upload(t, s, "n", data)
		upload(t, s, "gone", data)
		if err := s.Delete(t.Context(), "gone", 0); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{2, 0, 0} {
			expire(t, s, time.Now().Add(time.Second), want)
			if !bytes.Equal(download(t, s, "n"), data) {
				t.Fatal("the content differs")
			}
			wantParts(t, s, 3)
		}
		wantKeys(t, s, uploadsFolder, 0)
		upload(t, s, "n", nil) // Replaces an object whose upload is forgotten.
		wantParts(t, s, 0)
		expire(t, s, time.Now().Add(time.Second), 1)
		expire(t, s, time.Now().Add(time.Second), 0)
		wantKeys(t, s, uploadsFolder, 0)
	})
}

func TestASilentWriterLosesAnExpiredUpload(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		here, elsewhere := openOn(t, shared), openOn(t, shared)
		h := Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, elsewhere, h)
		send(t, w, make([]byte, 1500), 0)
		expire(t, here, time.Now().Add(time.Second), 1)
		_, err := w.Finish(Expect{})
		wantError(t, err, ErrWriterReplaced)
		_ = w.Close()
		wantKeys(t, here, partsFolder, 0)
		wantAbsent(t, here, "n")
	})
}

// A process dies at any of the steps of finishing an upload or of removing it. Whoever comes after, either the
// sender or Expire, leaves either the whole object or nothing, and after Expire no blob that nothing refers to.
func TestWhereverAProcessDiesNothingIsLostOrLeft(t *testing.T) {
	died := errors.New("the process died")
	for step := range 40 {
		shared, steps := memBucket(), atomic.Int64{}
		dying := openOn(t, &faulty{bucket: shared, fail: func(operation, _ string) error {
			if operation == "get" {
				return nil
			}
			if steps.Add(1) > int64(step) {
				return died
			}
			return nil
		}})
		data := randomBytes(t, 1700)
		h := Header{UploadID: newID(), Name: "n"}
		w, err := dying.OpenWriter(t.Context(), h)
		if err == nil {
			if err = trySend(w, data, 0); err == nil {
				_, err = w.Finish(Expect{})
			}
			_ = w.Close()
		}
		if err == nil {
			_, _ = dying.Expire(t.Context(), time.Now().Add(time.Second))
		}
		s := openOn(t, shared)
		if _, visible := s.Get(t.Context(), "n"); visible == nil && !bytes.Equal(download(t, s, "n"), data) {
			t.Fatalf("after step %d the content differs", step)
		}
		for range 2 {
			if _, err := s.Expire(t.Context(), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		wantKeys(t, s, uploadsFolder, 0)
		if _, err := s.Get(t.Context(), "n"); err == nil {
			wantParts(t, s, 2)
			if !bytes.Equal(download(t, s, "n"), data) {
				t.Fatalf("after step %d and Expire the content differs", step)
			}
		} else if left := keysIn(t, s, partsFolder); len(left) > 0 {
			t.Errorf("after step %d there are %s", step, strings.Join(left, ", "))
		}
	}
}
