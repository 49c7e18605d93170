package store

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"

	"example.com/quartet/internal/crc32c"
)

func TestAPartIsReceivedWhileThoseBeforeAreCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan bool)
		s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, _ string) error {
			if operation == "commit" {
				<-slow
			}
			return nil
		}})
		data, h := randomBytes(t, 3800), Header{UploadID: newID(), Name: "n"}
		w := openWriter(t, s, h)
		sent := 0
		go func() {
			for at := 0; at < len(data); at += 100 {
				chunk := data[at : at+100]
				if err := w.WriteChunk(int64(at), crc32c.Checksum(chunk), chunk); err != nil {
					t.Error(err)
				}
				sent = at + 100
			}
		}()
		synctest.Wait()
		if want := (maxBehind+1)*smallPart - 100; sent != want {
			t.Errorf("%d bytes were received while nothing was stored, want %d and not one part more", sent, want)
		}
		wantCommitted(t, s, h.UploadID, 0)
		close(slow)
		synctest.Wait()
		finish(t, w, Expect{SHA256: sum(data)})
	})
}

func TestWhatFollowsAPartThatCannotBeStoredIsNotCommitted(t *testing.T) {
	broken := errors.New("broken")
	failing := true
	s := openOn(t, &faulty{bucket: memBucket(), fail: func(operation, key string) error {
		if failing && operation == "commit" && strings.Contains(key, ".00000000.") { // The first part.
			return broken
		}
		return nil
	}})
	data, h := randomBytes(t, 3800), Header{UploadID: newID(), Name: "n"}
	w := openWriter(t, s, h)
	for at := 0; at < 1000; at += 500 {
		if err := w.WriteChunk(int64(at), crc32c.Checksum(data[at:at+500]), data[at:at+500]); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, trySend(w, data, 1000), broken)
	_ = w.Close()
	wantCommitted(t, s, h.UploadID, 0)
	if parts := keysIn(t, s, partsFolder); len(parts) != 0 {
		t.Errorf("left behind: %q", parts)
	}
	failing = false
	w = openWriter(t, s, h)
	send(t, w, data, 0)
	finish(t, w, Expect{SHA256: sum(data)})
}

// An engine that holds parts in memory holds one for each upload and the spares, whatever the number of uploads.
func TestUploadsShareTheSpareParts(t *testing.T) {
	held, most := 0, 0
	s := openOn(t, memBucket())
	s.spares = semaphore.NewWeighted(3)
	var writers []*Writer
	for range 4 {
		w := openWriter(t, s, Header{UploadID: newID(), Name: "n"})
		writers = append(writers, w)
		send(t, w, make([]byte, 10*smallPart), 0)
		w.behind = []*behind{{}, {}} // As if two were under way.
		held += w.mayBehind()
		w.behind = nil
		most = max(most, held)
	}
	if most != 3 {
		t.Errorf("%d parts were under way besides one of each upload, want 3", most)
	}
	for _, w := range writers {
		_ = w.Close()
	}
	if !s.spares.TryAcquire(3) {
		t.Error("spares were not given back")
	}
}
