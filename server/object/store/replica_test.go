package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/quartet/internal/crc32c"
)

func TestTheNewestWriterWins(t *testing.T) {
	s, h := openMem(t), Header{UploadID: newID(), Name: "n"}
	data := randomBytes(t, 1500)
	older := openWriter(t, s, h)
	send(t, older, data[:1300], 0)

	opened := make(chan *Writer)
	go func() {
		w, err := s.OpenWriter(context.Background(), h)
		if err != nil {
			t.Error(err)
		}
		opened <- w
	}()
	<-older.Replaced()
	wantError(t, older.WriteChunk(1300, crc32c.Checksum([]byte("x")), []byte("x")), ErrWriterReplaced)
	_, err := older.Pause()
	wantError(t, err, ErrWriterReplaced)
	_, err = older.Finish(Expect{})
	wantError(t, err, ErrWriterReplaced)
	if err := older.Close(); err != nil {
		t.Error(err)
	}

	newer := <-opened
	if newer.Committed() != 1300 {
		t.Errorf("Committed = %d, want what the older one kept when it was closed", newer.Committed())
	}
	send(t, newer, data, 1300)
	finish(t, newer, Expect{SHA256: sum(data)})
	if len(s.turns.uploads) != 0 {
		t.Error("the registry keeps uploads that nobody writes")
	}
}

func TestTheNewestWaitsForTheOldestToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := openMem(t), Header{UploadID: newID(), Name: "n"}
		first := openWriter(t, s, h)
		results := make([]error, 2)
		var writers [2]*Writer
		var group sync.WaitGroup
		for i := range results {
			group.Go(func() { writers[i], results[i] = s.OpenWriter(t.Context(), h) })
			synctest.Wait()
		}
		wantError(t, results[0], ErrWriterReplaced) // The second gives up as soon as there is a third.
		if writers[1] != nil {
			t.Error("the third did not wait")
		}
		_ = first.Close()
		group.Wait()
		if results[1] != nil {
			t.Fatal(results[1])
		}
		_ = writers[1].Close()
	})
}

func TestWaitingForAnOlderWriterEndsWithTheContext(t *testing.T) {
	s, h := openMem(t), Header{UploadID: newID(), Name: "n"}
	older := openWriter(t, s, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.OpenWriter(ctx, h)
	wantError(t, err, context.Canceled)
	_ = older.Close()
	_ = openWriter(t, s, h).Close()
	if len(s.turns.uploads) != 0 {
		t.Error("the registry keeps uploads that nobody writes")
	}
}

func TestAWriterEndsSoonAfterItsSenderIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		longer, stop := withGrace(ctx)
		defer stop()
		cancel()
		time.Sleep(grace - time.Nanosecond)
		if longer.Err() != nil {
			t.Error("there was no time to commit")
		}
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if longer.Err() == nil {
			t.Error("it goes on for ever")
		}
	})
}

// Two replicas take turns at one part; whoever comes second has lost the upload.
func TestOnlyOneReplicaCommitsAPart(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		one, two := openOn(t, shared), openOn(t, shared)
		h := Header{UploadID: newID(), Name: "n"}
		data := randomBytes(t, 1500)
		older, newer := openWriter(t, one, h), openWriter(t, two, h)
		send(t, older, data[:900], 0)
		send(t, newer, data, 0)
		err := trySend(older, data, 900)
		wantError(t, err, ErrWriterReplaced)
		_, err = older.Finish(Expect{})
		wantError(t, err, ErrWriterReplaced)
		_ = older.Close()
		finish(t, newer, Expect{})
		if !bytes.Equal(download(t, one, "n"), data) {
			t.Error("the content differs")
		}
		if parts := keysIn(t, one, partsFolder); len(parts) != 2 {
			t.Errorf("parts = %q, want those of the newer only", parts)
		}
	})
}

func TestAnOlderReplicaCannotFinishWhatANewerContinues(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		one, two := openOn(t, shared), openOn(t, shared)
		h := Header{UploadID: newID(), Name: "n"}
		older := openWriter(t, one, h)
		send(t, older, make([]byte, 1000), 0)
		newer := openWriter(t, two, h)
		send(t, newer, make([]byte, 2000), 1000)
		_, err := older.Finish(Expect{})
		wantError(t, err, ErrWriterReplaced)
		wantAbsent(t, one, "n")
		if object := finish(t, newer, Expect{}); object.Size != 2000 {
			t.Errorf("size = %d", object.Size)
		}
	})
}

func TestNothingIsAddedToAnUploadThatAnotherReplicaFinished(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		one, two := openOn(t, shared), openOn(t, &faulty{bucket: shared, fail: func(operation, key string) error {
			if operation == "put" { // It dies after the seal.
				return errors.New("the process died")
			}
			return nil
		}})
		h := Header{UploadID: newID(), Name: "n"}
		slow, quick := openWriter(t, one, h), openWriter(t, two, h)
		if _, err := quick.Finish(Expect{}); err == nil {
			t.Fatal("Finish did not die")
		}
		send(t, slow, []byte("more"), 0)
		_, err := slow.Pause()
		wantOffset(t, err, 0)
		_ = slow.Close()
		wantCommitted(t, one, h.UploadID, 0)
		if object := finish(t, openWriter(t, one, h), Expect{}); object.Size != 0 {
			t.Errorf("size = %d", object.Size)
		}
	})
}

func TestReplicasThatFinishTogetherAgree(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		for range rounds(shared, 50) {
			h := Header{UploadID: newID(), Name: "n"}
			data := randomBytes(t, 3300)
			w := openWriter(t, openOn(t, shared), h)
			send(t, w, data, 0)
			if _, err := w.Pause(); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()

			objects := make([]Object, 4)
			var group sync.WaitGroup
			for i := range objects {
				w := openWriter(t, openOn(t, shared), h)
				group.Go(func() {
					var e Expect
					if i%2 == 0 {
						e.SHA256 = sum(data) // Only some name one, and all get the same answer.
					}
					var err error
					if objects[i], err = w.Finish(e); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			for _, o := range objects {
				if !sameObject(o, objects[0]) {
					t.Errorf("objects differ: %+v, %+v", o, objects[0])
				}
			}
			if !bytes.Equal(download(t, openOn(t, shared), "n"), data) {
				t.Error("the content differs")
			}
		}
	})
}

// Senders on two replicas, each believing to be the only one, resume over and over until the upload is finished.
func TestReplicasThatRaceCommitEachByteOnce(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		h := Header{UploadID: newID(), Name: "n"}
		data := randomBytes(t, rounds(shared, 40_500))
		s := []*Store{openOn(t, shared), openOn(t, shared)}
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				for attempt := 1; !sendAll(t, s[i%2], h, data); attempt++ {
					// Senders of one replica that return at once replace each other before either gets anywhere.
					time.Sleep(time.Duration(mathrand.IntN(attempt)) * time.Millisecond)
				}
			})
		}
		group.Wait()
		if !bytes.Equal(download(t, s[0], "n"), data) {
			t.Error("the content differs")
		}
		if parts := keysIn(t, s[0], partsFolder); len(parts) > 100 {
			t.Errorf("%d parts are left", len(parts))
		}
		for _, store := range s {
			if len(store.turns.uploads) != 0 {
				t.Error("the registry keeps uploads that nobody writes")
			}
		}
	})
}

func sendAll(t *testing.T, s *Store, h Header, data []byte) (finished bool) {
	w, err := s.OpenWriter(context.Background(), h)
	if errors.Is(err, ErrWriterReplaced) {
		return false
	}
	if err != nil {
		t.Error(err)
		return true
	}
	defer w.Close()
	if w.Committed() < int64(len(data)) {
		err = trySend(w, data, w.Committed())
	}
	if err == nil {
		_, err = w.Finish(Expect{SHA256: sum(data)})
	}
	if err != nil && !errors.Is(err, ErrWriterReplaced) && !errors.Is(err, ErrOffsetMismatch) {
		t.Error(err)
	}
	return err == nil
}

// The record of a part may have been written although the engine reports an error.
func TestAPartWhoseOutcomeIsUnknownIsNotRemoved(t *testing.T) {
	shared, lose := memBucket(), true
	unsure := &faulty{bucket: shared, fail: func(operation, key string) error { return nil }}
	s := openOn(t, &losing{faulty: unsure, lose: &lose})
	h := Header{UploadID: newID(), Name: "n"}
	w := openWriter(t, s, h)
	data := randomBytes(t, 1500)
	wantError(t, trySend(w, data, 0), errUnsure)
	_ = w.Close()
	lose = false
	wantCommitted(t, s, h.UploadID, 1000)
	w = openWriter(t, s, h)
	send(t, w, data, 1000)
	finish(t, w, Expect{SHA256: sum(data)})
}

// The answer to a writer's record gets lost. When the writer looks what is there, another replica has finished the upload
// with this part, and removed the records.
func TestAPartThatAnotherReplicaFinishedWithIsNotRemoved(t *testing.T) {
	for what, then := range map[string]func(t *testing.T, s *Store, record string){
		"nothing is there": func(*testing.T, *Store, string) {},
		"a slow writer's record is there": func(t *testing.T, s *Store, record string) {
			if err := s.bucket.put(t.Context(), record, encodeJSON(&partRecord{part: part{Key: "another"}})); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakeS3(t)
			s, elsewhere := openURL(t, f.url()), openURL(t, f.url())
			data, h := randomBytes(t, smallPart), Header{UploadID: newID(), Name: "n"}
			w := openWriter(t, s, h)
			record, attempts := recordKey(h.UploadID, w.progress.header.Generation, 0), 0
			f.After = func(_ http.ResponseWriter, r *http.Request, key string) bool {
				if r.Method != http.MethodPut || key != record {
					return false
				}
				if attempts++; attempts == 1 {
					panic(http.ErrAbortHandler)
				}
				f.After = nil // The second is refused, because the first is there.
				finish(t, openWriter(t, elsewhere, h), Expect{SHA256: sum(data)})
				then(t, elsewhere, record)
				return false
			}
			wantError(t, trySend(w, data, 0), ErrWriterReplaced)
			_ = w.Close()
			if !bytes.Equal(download(t, elsewhere, "n"), data) {
				t.Error("the content differs")
			}
		})
	}
}

// losing writes records and loses the answers.
type losing struct {
	*faulty
	lose *bool
}

func (l *losing) create(ctx context.Context, key string, data []byte) error {
	err := l.bucket.create(ctx, key, data)
	if *l.lose && err == nil && !strings.HasSuffix(key, ".header") {
		return errUnsure
	}
	return err
}

func TestReadersSeeTheOldObjectOrTheNewOne(t *testing.T) {
	sharedEngines(t, func(t *testing.T, shared bucket) {
		s := openOn(t, shared)
		contents := [][]byte{bytes.Repeat([]byte("a"), 3500), bytes.Repeat([]byte("b"), 4500)}
		upload(t, s, "n", contents[0])
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			defer cancel()
			for i := range rounds(shared, 60) {
				upload(t, s, "n", contents[(i+1)%2])
			}
		})
		for range 2 {
			group.Go(func() {
				for ctx.Err() == nil {
					readOnce(t, s, contents)
				}
			})
		}
		group.Wait()
		if parts := keysIn(t, s, partsFolder); len(parts) > 5 {
			t.Errorf("parts of replaced objects are left: %d", len(parts))
		}
	})
}

func readOnce(t *testing.T, s *Store, contents [][]byte) {
	r, err := s.OpenReader(context.Background(), "n", 0, 0, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if errors.Is(err, ErrGenerationGone) {
		return
	}
	if err != nil || !(bytes.Equal(got, contents[0]) || bytes.Equal(got, contents[1])) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}
