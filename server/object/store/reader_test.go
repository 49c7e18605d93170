package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestEveryRangeReadsBack(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		random := newRandom(t)
		for _, size := range []int{1, smallPart - 1, smallPart, smallPart + 1, 3 * smallPart, 4321} {
			data := randomBytes(t, size)
			upload(t, s, "n", data)
			for range 60 {
				offset := random.IntN(size + 1)
				limit := random.IntN(size + 10)
				end := size
				if limit > 0 {
					end = min(size, offset+limit)
				}
				r, err := s.OpenReader(t.Context(), "n", 0, int64(offset), int64(limit))
				if err != nil {
					t.Fatal(err)
				}
				if err := iotest.TestReader(r, data[offset:end]); err != nil {
					t.Fatalf("range %d+%d of %d: %v", offset, limit, size, err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestARangeBeyondTheEndIsRefusedWithTheSize(t *testing.T) {
	s := openMem(t)
	object := upload(t, s, "n", make([]byte, 1500))
	var beyond *RangeError
	_, err := s.OpenReader(t.Context(), "n", 0, 1501, 0)
	if !errors.As(err, &beyond) || beyond.Size != 1500 || !errors.Is(err, ErrOutOfRange) {
		t.Errorf("error = %v", err)
	}
	r, err := s.OpenReader(t.Context(), "n", object.Generation, 1500, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read at the end = %d, %v", n, err)
	}
	if !sameObject(r.Object(), object) {
		t.Errorf("Object = %+v", r.Object())
	}
	r, err = s.OpenReader(t.Context(), "n", 0, 1, 1<<63-1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); len(data) != 1499 || err != nil {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
	for _, arguments := range [][2]int64{{-1, 0}, {0, -1}} {
		_, err := s.OpenReader(t.Context(), "n", 0, arguments[0], arguments[1])
		wantError(t, err, ErrInvalidArgument)
	}
}

func TestOnlyTheGenerationAskedForIsRead(t *testing.T) {
	s := openMem(t)
	first := upload(t, s, "n", []byte("first"))
	second := upload(t, s, "n", []byte("second"))
	_, err := s.OpenReader(t.Context(), "n", first.Generation, 0, 0)
	wantError(t, err, ErrGenerationGone)
	wantError(t, s.Delete(t.Context(), "n", first.Generation), ErrGenerationGone)
	if err := s.Delete(t.Context(), "n", second.Generation); err != nil {
		t.Fatal(err)
	}
	_, err = s.OpenReader(t.Context(), "n", second.Generation, 0, 0)
	wantError(t, err, ErrGenerationGone)
	_, err = s.OpenReader(t.Context(), "n", 0, 0, 0)
	wantError(t, err, ErrNotFound)
	wantError(t, s.Delete(t.Context(), "n", 0), ErrNotFound)
	if left := keysIn(t, s, partsFolder); len(left) != 0 {
		t.Errorf("parts left: %q", left)
	}
}

func TestAReadThatIsOvertakenSaysSo(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		for what, overtake := range map[string]func(){
			"replaced": func() { upload(t, s, "n", []byte("other")) },
			"deleted": func() {
				if err := s.Delete(t.Context(), "n", 0); err != nil {
					t.Error(err)
				}
			},
		} {
			upload(t, s, "n", make([]byte, 3500))
			r, err := s.OpenReader(t.Context(), "n", 0, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 1100)); err != nil {
				t.Fatal(err)
			}
			overtake()
			if rest, err := io.ReadAll(r); !errors.Is(err, ErrGenerationGone) || int64(1100+len(rest)) >= r.Object().Size {
				t.Errorf("%s: %d more bytes, %v", what, len(rest), err)
			}
			_ = r.Close()
			_, err = s.OpenReader(t.Context(), "n", r.Object().Generation, 1100, 0)
			wantError(t, err, ErrGenerationGone)
		}
	})
}

func TestDamagedPartsAreNoticed(t *testing.T) {
	for what, damage := range map[string]func(s *Store, key string, content []byte) error{
		"a flipped bit": func(s *Store, key string, content []byte) error {
			content[500] ^= 1
			return s.bucket.put(context.Background(), key, content)
		},
		"truncated": func(s *Store, key string, content []byte) error {
			return s.bucket.put(context.Background(), key, content[:999])
		},
		"lost": func(s *Store, key string, content []byte) error {
			return s.bucket.delete(context.Background(), key)
		},
	} {
		t.Run(what, func(t *testing.T) {
			engines(t, func(t *testing.T, s *Store) {
				data := randomBytes(t, 2500)
				upload(t, s, "n", data)
				key := keysIn(t, s, partsFolder)[1]
				if err := damage(s, key, bytes.Clone(data[1000:2000])); err != nil {
					t.Fatal(err)
				}
				r, err := s.OpenReader(t.Context(), "n", 0, 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				got, err := io.ReadAll(r)
				wantError(t, err, ErrCorrupt)
				if len(got) >= 2000 {
					t.Errorf("all %d bytes of a damaged part were given out", len(got))
				}
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrCorrupt) {
					t.Errorf("reading on: %v", err)
				}
			})
		})
	}
}

func TestADamagedUploadIsNotFinished(t *testing.T) {
	s, id := openMem(t), newID()
	w := openWriter(t, s, Header{UploadID: id, Name: "n"})
	data := randomBytes(t, 2500)
	send(t, w, data, 0)
	if err := s.bucket.put(t.Context(), keysIn(t, s, partsFolder)[0], make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_, err := w.Finish(Expect{SHA256: sum(data)})
	wantError(t, err, ErrCorrupt)
	wantAbsent(t, s, "n")
	_, err = s.GetUpload(t.Context(), id)
	wantError(t, err, ErrUploadNotFound)
}

func TestADamagedManifestIsNoticedAndCanBeReplaced(t *testing.T) {
	s := openMem(t)
	for _, damage := range []string{"", "{", `{"name":"other"}`, `{"name":"n","size":5}`} {
		if err := s.bucket.put(t.Context(), manifestKey("n"), []byte(damage)); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), "n")
		wantError(t, err, ErrCorrupt)
		if objects, _, err := s.List(t.Context(), "", 0, ""); err != nil || len(objects) != 0 {
			t.Errorf("List = %v, %v", objects, err)
		}
		upload(t, s, "n", []byte("new"))
		if got := download(t, s, "n"); string(got) != "new" {
			t.Errorf("content = %q", got)
		}
	}
}

func TestReadingEndsWithTheContext(t *testing.T) {
	s := openMem(t)
	upload(t, s, "n", make([]byte, 2500))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.OpenReader(ctx, "n", 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	_, err = r.Read(make([]byte, 10))
	wantError(t, err, context.Canceled)
}
