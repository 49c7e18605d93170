package store

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

func openLimited(b bucket, limit int64) *Store {
	return newStore(b, Options{PartSize: smallPart, Quota: limit})
}

// stored adds up what lies in the bucket.
func stored(t *testing.T, s *Store) (sum int64) {
	t.Helper()
	entries, _, err := s.bucket.list(t.Context(), partsFolder, "", 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !isOwnerKey(e.key) {
			sum += e.size
		}
	}
	return sum
}

func wantHeld(t *testing.T, s *Store, want int64) {
	t.Helper()
	if s.quota.held != want {
		t.Errorf("%d bytes are counted, want %d", s.quota.held, want)
	}
}

func TestAnUploadThatCannotFitIsRefusedBeforeItBegins(t *testing.T) {
	s := openLimited(memBucket(), 3000)
	upload(t, s, "n", make([]byte, 1200))
	h := Header{UploadID: newID(), Name: "m", Expect: Expect{Size: ptr(int64(1801))}}
	_, err := s.OpenWriter(t.Context(), h)
	wantError(t, err, ErrQuotaExceeded)
	_, err = s.GetUpload(t.Context(), h.UploadID)
	wantError(t, err, ErrUploadNotFound)
	h.Size = ptr(int64(1800))
	w := openWriter(t, s, h)
	send(t, w, make([]byte, 1800), 0)
	finish(t, w, Expect{})
	wantHeld(t, s, 3000)
	upload(t, s, "empty", nil)
}

func TestAPartThatDoesNotFitIsRefusedAndTheUploadContinuesWhenThereIsRoom(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		s.quota.limit = 3000
		upload(t, s, "n", make([]byte, 1200))
		data, h := randomBytes(t, 2500), Header{UploadID: newID(), Name: "m"}
		w := openWriter(t, s, h)
		wantError(t, trySend(w, data, 0), ErrQuotaExceeded)
		_, err := w.Finish(Expect{})
		wantError(t, err, ErrQuotaExceeded)
		_ = w.Close()
		wantCommitted(t, s, h.UploadID, 1000)
		wantParts(t, s, 3)
		wantHeld(t, s, 2200)
		if err := s.Delete(t.Context(), "n", 0); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, s, 1000)
		w = openWriter(t, s, h)
		send(t, w, data, 1000)
		finish(t, w, Expect{SHA256: sum(data)})
		wantHeld(t, s, 2500)
	})
}

func TestAResumedUploadNeedsRoomOnlyForItsRest(t *testing.T) {
	s := openLimited(memBucket(), 3000)
	h := Header{UploadID: newID(), Name: "n", Expect: Expect{Size: ptr(int64(2500))}}
	w := openWriter(t, s, h)
	send(t, w, make([]byte, 2000), 0)
	_ = w.Close()
	upload(t, s, "m", make([]byte, 501))
	_, err := s.OpenWriter(t.Context(), h)
	wantError(t, err, ErrQuotaExceeded)
	if err := s.Delete(t.Context(), "m", 0); err != nil {
		t.Fatal(err)
	}
	w = openWriter(t, s, h)
	send(t, w, make([]byte, 2500), 2000)
	object := finish(t, w, Expect{})
	upload(t, s, "m", make([]byte, 500))
	if again := finish(t, openWriter(t, s, h), Expect{}); !sameObject(again, object) {
		t.Errorf("finished again in a full store: %+v, want %+v", again, object)
	}
}

func TestAnOverwriteNeedsRoomForBoth(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		s.quota.limit = 3000
		upload(t, s, "n", make([]byte, 1600))
		_, err := tryUpload(s, "n", make([]byte, 1600))
		wantError(t, err, ErrQuotaExceeded)
		expire(t, s, later(), 2) // With what there was of the second.
		upload(t, s, "n", make([]byte, 1400))
		if got := download(t, s, "n"); len(got) != 1400 {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func TestWhatIsRemovedTwiceIsCountedOnce(t *testing.T) {
	s := openFolder(t, t.TempDir())
	defer closeStore(t, s)
	upload(t, s, "n", make([]byte, 2500))
	upload(t, s, "m", make([]byte, 1000))
	m, err := s.readManifest(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.discard(t.Context(), partEntries(m.Parts)...)
	}
	wantHeld(t, s, 1000)
}

func TestAFolderIsCountedWhenItIsOpened(t *testing.T) {
	folder := t.TempDir()
	s := openFolder(t, folder)
	forgotten(t, s, "m", make([]byte, 1000))
	upload(t, s, "n", make([]byte, 2500))
	w := openWriter(t, s, Header{UploadID: newID(), Name: "o"})
	send(t, w, make([]byte, 700), 0)
	_ = w.Close()
	closeStore(t, s)
	s = openFolder(t, folder)
	defer closeStore(t, s)
	wantHeld(t, s, 4200)
	if err := s.Count(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, s, 4200)
}

func TestACountFindsWhatOtherReplicasDid(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		here, elsewhere := openLimited(shared, 3000), openLimited(shared, 3000)
		upload(t, elsewhere, "n", make([]byte, 2500))
		upload(t, here, "m", make([]byte, 1000)) // It does not know of the other's yet.
		if err := here.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, here, 3500)
		_, err := tryUpload(here, "o", make([]byte, 1))
		wantError(t, err, ErrQuotaExceeded)
		if err := elsewhere.Delete(t.Context(), "n", 0); err != nil {
			t.Fatal(err)
		}
		if err := here.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, here, 1000)
	})
}

func TestWhatIsCommittedDuringACountIsInIt(t *testing.T) {
	shared := memBucket()
	s := openLimited(shared, 0)
	upload(t, s, "n", make([]byte, 2500))
	s.quota.beginCount()
	upload(t, s, "m", make([]byte, 1000))
	s.quota.endCount(2500) // The list had come past it.
	wantHeld(t, s, 3500)
}

func TestWritersTogetherNeverExceedAQuota(t *testing.T) {
	const limit = 20_500
	var most, refused atomic.Int64
	s := openLimited(memBucket(), limit)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 {
				object, err := tryUpload(s, newID(), bytes.Repeat([]byte("x"), 1300))
				most.Store(max(most.Load(), stored(t, s)))
				if errors.Is(err, ErrQuotaExceeded) {
					refused.Add(1)
				} else if err != nil || object.Size != 1300 {
					t.Errorf("%d bytes, %v", object.Size, err)
				}
			}
		})
	}
	group.Wait()
	if most.Load() > limit || refused.Load() == 0 {
		t.Errorf("%d bytes were stored of %d, %d uploads were refused", most.Load(), limit, refused.Load())
	}
	wantHeld(t, s, stored(t, s))
}
