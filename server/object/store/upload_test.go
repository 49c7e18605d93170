package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"example.com/quartet/internal/crc32c"
)

// engines are the buckets on which the promises of an upload hold alike.
func engines(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Run("file", func(t *testing.T) {
		s := openFolder(t, t.TempDir())
		t.Cleanup(func() { closeStore(t, s) })
		test(t, s)
	})
	sharedEngines(t, func(t *testing.T, b bucket) { test(t, openOn(t, b)) })
}

// sharedEngines are those that several replicas may use at once.
func sharedEngines(t *testing.T, test func(t *testing.T, b bucket)) {
	t.Run("mem", func(t *testing.T) { test(t, memBucket()) })
	s3Services(t, func(t *testing.T, url string) { test(t, openURL(t, url).bucket) })
}

// rounds is n in memory, and fewer where each request goes over a connection.
func rounds(b bucket, n int) int {
	if _, remote := b.(*s3Bucket); remote {
		return n / 6
	}
	return n
}

func TestAnUploadAppearsAsAWholeWhenFinished(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data, id := randomBytes(t, 4567), newID()
		w := openWriter(t, s, Header{UploadID: id, Name: "a/b", ContentType: "text/plain"})
		send(t, w, data, 0)
		wantAbsent(t, s, "a/b")
		object := finish(t, w, Expect{})
		if object.Size != 4567 || object.CRC32C != crc32c.Checksum(data) || object.ContentType != "text/plain" ||
			object.Name != "a/b" || object.Generation == 0 || object.CreateTime.IsZero() || object.SHA256 != nil {
			t.Errorf("object = %+v", object)
		}
		if got, err := s.Get(t.Context(), "a/b"); err != nil || !sameObject(got, object) {
			t.Errorf("Get = %+v, %v, want %+v", got, err, object)
		}
		if !bytes.Equal(download(t, s, "a/b"), data) {
			t.Error("the content differs")
		}
		if u, err := s.GetUpload(t.Context(), id); err != nil || u.Committed != 4567 || !sameObject(*u.Object, object) {
			t.Errorf("GetUpload = %+v, %v", u, err)
		}
		if parts := keysIn(t, s, partsFolder); len(parts) != 5 {
			t.Errorf("parts = %q, want 5", parts)
		}
	})
}

func sameObject(a, b Object) bool {
	return bytes.Equal(encodeJSON(a), encodeJSON(b))
}

func TestAnEmptyObjectIsAnObject(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		object := upload(t, s, "empty", nil)
		if object.Size != 0 || object.CRC32C != 0 || object.ContentType != defaultContentType {
			t.Errorf("object = %+v", object)
		}
		if got := download(t, s, "empty"); len(got) != 0 {
			t.Errorf("content = %q", got)
		}
	})
}

func TestAnUploadContinuesAfterPause(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data := randomBytes(t, 2500)
		h := Header{UploadID: newID(), Name: "n"}
		for cut := int64(0); cut < 2500; cut += 700 {
			w := openWriter(t, s, h)
			if w.Committed() != cut {
				t.Fatalf("Committed = %d, want %d", w.Committed(), cut)
			}
			send(t, w, data[:min(cut+700, 2500)], cut)
			if committed, err := w.Pause(); err != nil || committed != min(cut+700, 2500) {
				t.Fatalf("Pause = %d, %v", committed, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		finish(t, openWriter(t, s, h), Expect{SHA256: sum(data)})
		if !bytes.Equal(download(t, s, "n"), data) {
			t.Error("the content differs")
		}
	})
}

func TestClosingKeepsABegunPartOnlyIfItIsWorthIt(t *testing.T) {
	for _, test := range []struct{ sent, committed int64 }{
		{smallPart/8 - 1, 0}, {smallPart / 8, smallPart / 8}, {smallPart + 1, smallPart}, {smallPart + 500, smallPart + 500},
	} {
		s, id := openMem(t), newID()
		w := openWriter(t, s, Header{UploadID: id, Name: "n"})
		send(t, w, make([]byte, test.sent), 0)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wantCommitted(t, s, id, test.committed)
		if got, want := len(keysIn(t, s, partsFolder)), int((test.committed+smallPart-1)/smallPart); got != want {
			t.Errorf("after %d bytes there are %d parts, want %d", test.sent, got, want)
		}
	}
}

func TestWhatArrivedIsKeptWhenTheSenderIsGone(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		id := newID()
		w, err := s.OpenWriter(ctx, Header{UploadID: id, Name: "n"})
		if err != nil {
			t.Fatal(err)
		}
		send(t, w, make([]byte, 800), 0)
		cancel()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wantCommitted(t, s, id, 800)
	})
}

func TestAnUnexpectedOffsetIsAnsweredWithTheRightOne(t *testing.T) {
	s, id := openMem(t), newID()
	w := openWriter(t, s, Header{UploadID: id, Name: "n"})
	data := []byte("twelve bytes")
	crc := crc32c.Checksum(data)
	for _, offset := range []int64{1, -1, 1 << 40} {
		wantOffset(t, w.WriteChunk(offset, crc, data), 0)
	}
	if err := w.WriteChunk(0, crc, data); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 11, 13} {
		wantOffset(t, w.WriteChunk(offset, crc, data), 12)
	}
	// The offset in the error was committed, and so the answer holds for whoever continues.
	wantCommitted(t, s, id, 12)
	if err := w.WriteChunk(12, crc, data); err != nil {
		t.Fatal(err)
	}
	if object := finish(t, w, Expect{}); object.Size != 24 {
		t.Errorf("size = %d", object.Size)
	}
}

func TestAChunkWithAWrongChecksumIsNotTaken(t *testing.T) {
	s := openMem(t)
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	wantError(t, w.WriteChunk(0, crc32c.Checksum([]byte("date")), []byte("data")), ErrChecksumMismatch)
	send(t, w, []byte("data"), 0)
	finish(t, w, Expect{})
	if got := download(t, s, "n"); string(got) != "data" {
		t.Errorf("content = %q", got)
	}
}

func TestAWholeThatDoesNotMatchLeavesNothing(t *testing.T) {
	data := []byte("these are the bytes")
	wrong := map[string]struct {
		expect Expect
		want   error
	}{
		"crc":    {Expect{CRC32C: ptr(crc32c.Checksum(data) + 1)}, ErrChecksumMismatch},
		"short":  {Expect{Size: ptr(int64(len(data) + 1))}, ErrSizeMismatch},
		"sha256": {Expect{SHA256: sum([]byte("others"))}, ErrChecksumMismatch},
	}
	for name, test := range wrong {
		for _, where := range []string{"header", "finish"} {
			t.Run(name+" in the "+where, func(t *testing.T) {
				s, id := openMem(t), newID()
				h, e := Header{UploadID: id, Name: "n", Expect: test.expect}, Expect{}
				if where == "finish" {
					h.Expect, e = e, test.expect
				}
				w := openWriter(t, s, h)
				send(t, w, data, 0)
				_, err := w.Finish(e)
				wantError(t, err, test.want)
				wantError(t, trySend(w, data, 0), test.want)
				_ = w.Close()
				wantAbsent(t, s, "n")
				_, err = s.GetUpload(t.Context(), id)
				wantError(t, err, ErrUploadNotFound)
				if parts := keysIn(t, s, partsFolder); len(parts) != 0 {
					t.Errorf("parts left: %q", parts)
				}

				// The same upload may be begun again.
				w = openWriter(t, s, Header{UploadID: id, Name: "n"})
				send(t, w, data, 0)
				finish(t, w, Expect{SHA256: sum(data)})
			})
		}
	}
}

func TestMoreThanTheStatedOrAllowedSizeIsRefusedAtOnce(t *testing.T) {
	s := newStore(memBucket(), Options{PartSize: smallPart, MaxObjectSize: 100})
	_, err := s.OpenWriter(t.Context(), Header{UploadID: newID(), Name: "n", Expect: Expect{Size: ptr(int64(101))}})
	wantError(t, err, ErrTooLarge)
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	wantError(t, trySend(w, make([]byte, 101), 0), ErrTooLarge)
	h := Header{UploadID: newID(), Name: "n"}
	w = openWriter(t, s, h)
	send(t, w, make([]byte, 100), 0)
	if _, err := w.Pause(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	wantError(t, trySend(openWriter(t, s, h), make([]byte, 101), 100), ErrTooLarge)
	w = openWriter(t, s, Header{UploadID: newID(), Name: "n", Expect: Expect{Size: ptr(int64(10))}})
	wantError(t, trySend(w, make([]byte, 11), 0), ErrSizeMismatch)
}

func TestFinishingAgainGivesTheSameObject(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		data := randomBytes(t, 2500)
		h := Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, s, h)
		send(t, w, data, 0)
		first, err := w.Finish(Expect{SHA256: sum(data)})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := w.Finish(Expect{}); err != nil || !sameObject(first, again) {
			t.Errorf("the same writer: %+v, %v, want %+v", again, err, first)
		}
		_ = w.Close()

		w = openWriter(t, s, h)
		if w.Committed() != 2500 {
			t.Errorf("Committed = %d", w.Committed())
		}
		wantOffset(t, w.WriteChunk(2500, crc32c.Checksum([]byte("x")), []byte("x")), 2500)
		wantOffset(t, w.WriteChunk(0, crc32c.Checksum(data[:10]), data[:10]), 2500)
		if again, err := w.Finish(Expect{Size: ptr(int64(2500))}); err != nil || !sameObject(first, again) {
			t.Errorf("a new writer: %+v, %v, want %+v", again, err, first)
		}
		_ = w.Close()

		w = openWriter(t, s, h)
		_, err = w.Finish(Expect{SHA256: sum(nil)})
		wantError(t, err, ErrChecksumMismatch)
		if !bytes.Equal(download(t, s, "n"), data) {
			t.Error("a contradiction afterwards has harmed the object")
		}
	})
}

func TestFinishingAgainLeavesAloneWhatCameAfter(t *testing.T) {
	t.Run("another object", func(t *testing.T) {
		s, h := openMem(t), Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, s, h)
		send(t, w, []byte("first"), 0)
		first := finish(t, w, Expect{})
		upload(t, s, "n", []byte("second"))
		if again := finish(t, openWriter(t, s, h), Expect{}); !sameObject(first, again) {
			t.Errorf("again = %+v, want %+v", again, first)
		}
		if got := download(t, s, "n"); string(got) != "second" {
			t.Errorf("content = %q", got)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		s, h := openMem(t), Header{UploadID: newID(), Name: "n"}
		finish(t, openWriter(t, s, h), Expect{})
		if err := s.Delete(t.Context(), "n", 0); err != nil {
			t.Fatal(err)
		}
		finish(t, openWriter(t, s, h), Expect{})
		wantAbsent(t, s, "n")
	})
}

// A process dies after the manifest is written and before that is on record.
func TestAFinishThatDiedHalfwayIsRepeatedOrSuperseded(t *testing.T) {
	sharedEngines(t, finishThatDiedHalfway)
}

func finishThatDiedHalfway(t *testing.T, shared bucket) {
	died := errors.New("the process died")
	halfway := func(t *testing.T) (*Store, Header) {
		dying := openOn(t, &faulty{bucket: shared, fail: func(operation, key string) error {
			if operation == "create" && strings.HasSuffix(key, ".complete") {
				return died
			}
			return nil
		}})
		h := Header{UploadID: newID(), Name: newID()}
		w := openWriter(t, dying, h)
		send(t, w, []byte("first"), 0)
		_, err := w.Finish(Expect{})
		wantError(t, err, died)
		_ = w.Close()
		return openOn(t, shared), h
	}
	t.Run("repeated", func(t *testing.T) {
		s, h := halfway(t)
		wantCommitted(t, s, h.UploadID, 5)
		finish(t, openWriter(t, s, h), Expect{})
		if got := download(t, s, h.Name); string(got) != "first" {
			t.Errorf("content = %q", got)
		}
	})
	t.Run("replaced in between", func(t *testing.T) {
		s, h := halfway(t)
		upload(t, s, h.Name, []byte("second"))
		if object := finish(t, openWriter(t, s, h), Expect{}); object.Size != 5 {
			t.Errorf("object = %+v", object)
		}
		if got := download(t, s, h.Name); string(got) != "second" {
			t.Errorf("content = %q", got)
		}
	})
	t.Run("deleted in between", func(t *testing.T) {
		s, h := halfway(t)
		if err := s.Delete(t.Context(), h.Name, 0); err != nil {
			t.Fatal(err)
		}
		finish(t, openWriter(t, s, h), Expect{})
		wantAbsent(t, s, h.Name)
	})
}

func TestAnotherHeaderIsRefused(t *testing.T) {
	s := openMem(t)
	h := Header{UploadID: newID(), Name: "n", ContentType: "text/plain", Expect: Expect{Size: ptr(int64(3))}}
	_ = openWriter(t, s, h).Close()
	for what, change := range map[string]func(*Header){
		"name":         func(h *Header) { h.Name = "m" },
		"content type": func(h *Header) { h.ContentType = "" },
		"size":         func(h *Header) { h.Size = ptr(int64(4)) },
		"no size":      func(h *Header) { h.Size = nil },
		"crc":          func(h *Header) { h.CRC32C = ptr(uint32(0)) },
		"sha256":       func(h *Header) { h.SHA256 = sum(nil) },
	} {
		other := h
		change(&other)
		if _, err := s.OpenWriter(t.Context(), other); !errors.Is(err, ErrUploadMismatch) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	same := h
	same.Size = ptr(int64(3))
	openWriter(t, s, same)
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	good := Header{UploadID: newID(), Name: "n"}
	for what, test := range map[string]struct {
		change func(*Header)
		want   error
	}{
		"id too short":     {func(h *Header) { h.UploadID = strings.Repeat("a", 15) }, ErrInvalidUploadID},
		"id too long":      {func(h *Header) { h.UploadID = strings.Repeat("a", 65) }, ErrInvalidUploadID},
		"id with a slash":  {func(h *Header) { h.UploadID = "../../../../../../a" }, ErrInvalidUploadID},
		"id with a dot":    {func(h *Header) { h.UploadID = "aaaaaaaaaaaaaaaa.header" }, ErrInvalidUploadID},
		"id with a letter": {func(h *Header) { h.UploadID = "aaaaaaaaaaaaaaaaä" }, ErrInvalidUploadID},
		"no name":          {func(h *Header) { h.Name = "" }, ErrInvalidName},
		"long type":        {func(h *Header) { h.ContentType = strings.Repeat("a", 256) }, ErrInvalidContentType},
		"type of lines":    {func(h *Header) { h.ContentType = "text/plain\r\nX: y" }, ErrInvalidContentType},
		"negative size":    {func(h *Header) { h.Size = ptr(int64(-1)) }, ErrInvalidArgument},
		"half a hash":      {func(h *Header) { h.SHA256 = make([]byte, 16) }, ErrInvalidArgument},
	} {
		h := good
		test.change(&h)
		if _, err := openMem(t).OpenWriter(t.Context(), h); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", what, err, test.want)
		}
	}
	for _, id := range []string{"0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-", strings.Repeat("z", 64)} {
		if err := checkUploadID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestAnUploadThatNeverBeganIsNotFound(t *testing.T) {
	_, err := openMem(t).GetUpload(t.Context(), newID())
	wantError(t, err, ErrUploadNotFound)
	_, err = openMem(t).GetUpload(t.Context(), "short")
	wantError(t, err, ErrInvalidUploadID)
}

func TestAFullDiskStopsTheUploadWhereItWasCommitted(t *testing.T) {
	for _, full := range []string{"open parts/", "write parts/", "commit parts/", "create uploads/", "put objects/"} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(full+errno.Error(), func(t *testing.T) { fullDisk(t, full, errno) })
		}
	}
}

func fullDisk(t *testing.T, full string, errno syscall.Errno) {
	data, isFull := randomBytes(t, 2600), false
	s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, key string) error {
		if isFull && strings.HasPrefix(operation+" "+key, full) {
			return errno
		}
		return nil
	}})
	h := Header{UploadID: newID(), Name: "n"}
	w := openWriter(t, s, h)
	send(t, w, data[:1100], 0)
	isFull = true
	err := trySend(w, data, 1100)
	if err == nil {
		_, err = w.Finish(Expect{})
	}
	wantError(t, err, ErrStoreFull)
	wantError(t, err, errno)
	_ = w.Close()
	wantAbsent(t, s, "n")
	before, err := s.GetUpload(t.Context(), h.UploadID)
	if err != nil || before.Committed < 1000 || before.Object != nil {
		t.Fatalf("GetUpload = %+v, %v", before, err)
	}
	if got, want := len(keysIn(t, s, partsFolder)), int(before.Committed+smallPart-1)/smallPart; got != want {
		t.Errorf("%d parts are stored, want %d: %q", got, want, keysIn(t, s, partsFolder))
	}

	isFull = false
	w = openWriter(t, s, h)
	if w.Committed() != before.Committed {
		t.Errorf("Committed = %d, want %d", w.Committed(), before.Committed)
	}
	send(t, w, data, w.Committed())
	finish(t, w, Expect{SHA256: sum(data)})
}

func TestCountUp(t *testing.T) {
	for count := range 300 {
		asked := 0
		got, err := countUp(func(i int) (bool, error) { asked++; return i < count, nil })
		if got != count || err != nil {
			t.Fatalf("countUp of %d = %d, %v", count, got, err)
		}
		if asked > 20 {
			t.Errorf("countUp of %d asked %d times", count, asked)
		}
	}
}

func TestAnUploadHasABoundedNumberOfParts(t *testing.T) {
	s := openMem(t)
	w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
	w.progress.next = maxParts
	wantError(t, trySend(w, []byte("x"), 0), ErrTooLarge)
}

func TestGenerationsAreNeverUsedAgain(t *testing.T) {
	s, last := openMem(t), int64(0)
	for range 10_000 {
		next := s.newGeneration()
		if next <= last {
			t.Fatalf("generation %d after %d", next, last)
		}
		last = next
	}
}
