package s3

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/enginetest"
	"example.com/quartet/server/object/s3/s3test"
)

// completes tells whether a request is to put the parts of an upload together.
func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// abortOf removes the multipart upload of S3 that an upload has, as a rule of the bucket does.
func abortOf(t *testing.T, s *S3, h engine.Header) {
	t.Helper()
	r, _, err := s.readRecord(t.Context(), h.UploadID)
	if err == nil {
		err = s.abort(t.Context(), objectKey(h.Name), r.S3Upload)
	}
	if err != nil {
		t.Error(err)
	}
}

// wantUnfinished has a replica look an upload up that has made no object.
func wantUnfinished(t *testing.T, s *S3, h engine.Header) {
	t.Helper()
	if state, err := s.Upload(t.Context(), h.UploadID); state.Object != nil ||
		!errors.Is(err, engine.ErrUploadNotFound) {
		t.Errorf("looked up as %+v, %v", state, err)
	}
}

// wantSentAgain has a sender send again what is not there, until it is.
func wantSentAgain(t *testing.T, url string, h engine.Header, content []byte) {
	t.Helper()
	o := transfer(t, url, smallPart, h, content)
	s := open(t, url, smallPart)
	got, err := enginetest.Read(t.Context(), s, h.Name, o.Generation, 0, 0, 1<<20, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("sent again: there are %d bytes, %v", len(got), err)
	}
}

// The service takes the multipart upload and breaks down before there is an object, as versitygw
// does at a power cut: it has renamed the folder of the upload, and knows it no more. The name may
// have had another object.
func TestAnUploadIsNotFinishedWhereTheServiceBrokeDownInTheMiddleOfIt(t *testing.T) {
	for _, before := range []bool{false, true} {
		fake, url := newFake(t)
		s, other := open(t, url, smallPart), open(t, url, smallPart)
		if before {
			put(t, s, header("o"), enginetest.Content(10))
		}
		h, content := header("o"), enginetest.Content(2*smallPart+5)
		broken := false
		fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			if !completes(r) || broken {
				return false
			}
			broken = true
			abortOf(t, other, h)
			wantUnfinished(t, other, h)
			panic(http.ErrAbortHandler)
		})
		if o, err := enginetest.Put(t.Context(), s, h, content); !errors.Is(err,
			engine.ErrWriterReplaced) {
			t.Errorf("finished as %+v, %v", o, err)
		}
		wantUnfinished(t, s, h)
		wantSentAgain(t, url, h, content)
	}
}

// A rule of the bucket counts from when an upload began, whatever has happened to it since.
func TestAnUploadIsNotFinishedWhereARuleOfTheBucketAbortedIt(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	h, content := header("o"), enginetest.Content(2*smallPart+5)
	fake.Before(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if completes(r) {
			s3test.Fail(w, http.StatusServiceUnavailable, "SlowDown")
		}
		return completes(r)
	})
	if o, err := enginetest.Put(t.Context(), s, h, content); !errors.Is(err, engine.ErrUnavailable) {
		t.Fatalf("finished as %+v, %v", o, err)
	}
	fake.Before(nil)
	abortOf(t, s, h)
	wantUnfinished(t, s, h)
	wantSentAgain(t, url, h, content)
}

// versitygw answers a second request to put parts together while it carries out the first one: with
// status 200 and without a checksum, whatever becomes of the first one. A service may have no
// checksum to answer with.
func TestAnAnswerWithoutAChecksumIsNotBelieved(t *testing.T) {
	for _, done := range []bool{false, true} {
		fake, url := newFake(t)
		s, other := open(t, url, smallPart), open(t, url, smallPart)
		h, content := header("o"), enginetest.Content(2*smallPart+5)
		fake.Before(func(w http.ResponseWriter, r *http.Request, _ string) bool {
			if !completes(r) {
				return false
			}
			fake.Before(nil)
			if done {
				transfer(t, url, smallPart, h, content)
			}
			_, _ = w.Write([]byte("<CompleteMultipartUploadResult/>"))
			return true
		})
		o, err := enginetest.Put(t.Context(), s, h, content)
		_, there := other.Stat(t.Context(), "o")
		if done != (err == nil) || done != (there == nil) ||
			!done && !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("done %v: finished as %+v, %v; the object: %v", done, o, err, there)
		}
		wantSentAgain(t, url, h, content)
	}
}

// Once an object is there it stays finished, also where it was replaced since.
func TestAnUploadStaysFinishedWhenItsObjectIsReplaced(t *testing.T) {
	_, url := newFake(t)
	s := open(t, url, smallPart)
	put(t, s, header("o"), enginetest.Content(10))
	h, content := header("o"), enginetest.Content(2*smallPart+5)
	made := put(t, s, h, content)
	put(t, s, header("o"), enginetest.Content(20))
	state, err := s.Upload(t.Context(), h.UploadID)
	if err != nil || state.Object == nil || state.Object.Generation != made.Generation {
		t.Errorf("looked up as %+v, %v", state, err)
	}
	if err := s.Cancel(t.Context(), h.UploadID, enginetest.AnyName); !errors.Is(err,
		engine.ErrUploadFinished) {
		t.Errorf("cancelled: %v", err)
	}
	u, err := s.Begin(t.Context(), h, false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	again, err := u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(content))})
	if err != nil || again.Generation != made.Generation {
		t.Errorf("finished again as %+v, %v", again, err)
	}
}

// What was deleted is made again only by its content, and is then the same object: a finish alone,
// as of a sender whose answer was lost, makes no empty one, and other content none at all.
func TestAnObjectThatWasDeletedComesAgainOnlyAsItWas(t *testing.T) {
	for _, size := range []int{1000, 2*smallPart + 5} {
		_, url := newFake(t)
		s := open(t, url, smallPart)
		h, content := header("o"), enginetest.Content(size)
		made := put(t, s, h, content)
		if err := s.Delete(t.Context(), "o", 0); err != nil {
			t.Fatal(err)
		}
		u, err := s.Begin(t.Context(), h, false)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := u.Finish(engine.Expect{}); !errors.Is(err, engine.ErrOffsetMismatch) {
			t.Errorf("%d bytes, a finish alone: %+v, %v", size, o, err)
		}
		_ = u.Close()
		other := h
		other.Name = "p"
		for what, sent := range map[string]engine.Header{"other content": h, "another name": other} {
			if o, err := enginetest.Put(t.Context(), s, sent, enginetest.Content(500)); !errors.Is(err,
				engine.ErrUploadMismatch) {
				t.Errorf("%d bytes, %s: %+v, %v", size, what, o, err)
			}
		}
		if again := put(t, s, h, content); again.Generation != made.Generation ||
			!again.CreateTime.Equal(made.CreateTime) {
			t.Errorf("%d bytes: made %+v, and then %+v", size, made, again)
		}
		wantSentAgain(t, url, h, content)
	}
}

// The SDK asks again where an answer was lost, and is then told that the record has changed.
func TestALostAnswerOfARecordIsNotTakenForAnotherWriter(t *testing.T) {
	for lost := int64(1); ; lost++ {
		fake, url := newFake(t)
		s := open(t, url, smallPart)
		h := header("o")
		h.HashSHA256 = true
		var writes atomic.Int64
		fake.After(func(_ http.ResponseWriter, r *http.Request, key string) bool {
			if r.Method == http.MethodPut && strings.HasPrefix(key, uploadsPrefix) &&
				writes.Add(1) == lost {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		if _, err := enginetest.Put(t.Context(), s, h, enginetest.Content(3*smallPart+5)); err != nil {
			t.Errorf("answer %d of a record is lost: %v", lost, err)
		}
		if writes.Load() < lost { // All were lost once.
			if lost < 4 {
				t.Errorf("%d records were written", lost-1)
			}
			return
		}
	}
}

// Just before a cancellation aborts the multipart upload, its sender commits a part in another
// process, or finishes.
func TestACancellationThatIsOvertakenLooksAgain(t *testing.T) {
	for _, finish := range []bool{false, true} {
		fake, url := newFake(t)
		s, other := open(t, url, smallPart), open(t, url, smallPart)
		h, content := header("o"), enginetest.Content(3*smallPart+5)
		h.HashSHA256 = true
		u, err := enginetest.Send(t.Context(), s, h, content[:smallPart], 0)
		if err == nil {
			_, err = u.Pause()
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = u.Close()
		fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			if r.Method != http.MethodDelete {
				return false
			}
			fake.Before(nil)
			u, err := enginetest.Send(t.Context(), other, h, content, smallPart)
			if err == nil && finish {
				_, err = u.Finish(engine.Expect{})
			} else if err == nil {
				_, err = u.Pause()
			}
			if err = errors.Join(err, u.Close()); err != nil {
				t.Error(err)
			}
			return false
		})
		err = s.Cancel(t.Context(), h.UploadID, enginetest.AnyName)
		_, there := s.Stat(t.Context(), "o")
		if finish && (!errors.Is(err, engine.ErrUploadFinished) || there != nil) {
			t.Errorf("cancelled after it was finished: %v, and the object: %v", err, there)
		}
		if !finish && (err != nil || len(fake.Keys())+len(fake.Uploads()) > 0) {
			t.Errorf("cancelled: %v; %d keys and %d uploads are left", err, len(fake.Keys()),
				len(fake.Uploads()))
		}
	}
}
