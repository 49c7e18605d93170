package s3

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/enginetest"
	"example.com/quartet/server/object/s3/s3test"
)

func TestEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (engine.Engine, func() engine.Engine) {
		_, url := newFake(t)
		return open(t, url, smallPart), func() engine.Engine { return open(t, url, smallPart) }
	})
}

// never is for Expire: no upload is busy.
func never(string) (release func(), ok bool) { return func() {}, true }

func header(name string) engine.Header {
	return engine.Header{UploadID: enginetest.ID(), Name: name, ContentType: "text/plain"}
}

func put(t *testing.T, s *S3, h engine.Header, content []byte) engine.Object {
	t.Helper()
	o, err := enginetest.Put(t.Context(), s, h, content)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Each request to S3 costs its operators money.
func TestNoMoreIsAskedOfS3ThanIsNeeded(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	asked := func(what string, most int) {
		t.Helper()
		if got := fake.Requests(); got > most {
			t.Errorf("%s took %d requests, want at most %d", what, got, most)
		}
	}
	fake.Requests()
	put(t, s, header("small"), enginetest.Content(1000))
	asked("a small object", 3)
	put(t, s, header("small"), enginetest.Content(1000))
	asked("a small object in the place of another", 3)
	content := enginetest.Content(64 * smallPart)
	put(t, s, header("large"), content)
	asked("an object of 64 parts", 70)
	for _, fast := range []bool{true, false} {
		got, err := enginetest.Read(t.Context(), s, "large", 0, 0, 0, 32<<10, fast)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		if fast {
			asked("a download of 64 parts", 17)
		} else {
			asked("a download of 64 parts without memory", 129)
		}
	}
	if _, err := enginetest.Read(t.Context(), s, "small", 0, 0, 0, 32<<10, true); err != nil {
		t.Fatal(err)
	}
	asked("a download of a small object", 1)
	for _, name := range []string{"small", "large"} {
		if err := s.Delete(t.Context(), name, 0); err != nil {
			t.Fatal(err)
		}
		asked("a deletion", 2)
	}
	if _, _, err := s.List(t.Context(), "", "", 1000); err != nil {
		t.Fatal(err)
	}
	asked("a list", 1)
}

// transfer uploads content as a sender does that goes on after each failure, with an engine of its
// own each time, until it has been acknowledged.
func transfer(
	t *testing.T, url string, partBytes int64, h engine.Header, content []byte,
) engine.Object {
	t.Helper()
	var from int64
	var failures []error
	for range 10 {
		s := open(t, url, partBytes)
		u, err := enginetest.Send(t.Context(), s, h, content, from)
		if err == nil {
			var o engine.Object
			if o, err = u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(content))}); err == nil {
				_ = u.Close()
				return o
			}
			_ = u.Close()
		}
		failures = append(failures, err)
		state, err := s.Upload(t.Context(), h.UploadID)
		switch {
		case errors.Is(err, engine.ErrUploadNotFound):
			from = 0
		case err != nil:
			failures = append(failures, err)
		case state.Object != nil:
			return *state.Object
		default:
			from = state.Committed
		}
	}
	t.Fatalf("the upload was never acknowledged: %v", errors.Join(failures...))
	return engine.Object{}
}

// Each request of an upload, one after the other, takes effect and its answer is lost: so that the
// SDK asks again, so that it never gets an answer and another process goes on, or so that it asks
// again and what is asked then is not answered.
func TestALostAnswerNeitherLosesNorDoublesAnything(t *testing.T) {
	for _, size := range []int{1000, 3*smallPart + 5} {
		// The SDK makes three attempts, and net/http may add one.
		for _, silent := range [][2]int{{}, {1, 2}, {2, 6}} {
			for _, before := range []bool{false, true} {
				for lost := 0; ; lost++ {
					fake, url := newFake(t)
					if before {
						put(t, open(t, url, smallPart), header("o"), enginetest.Content(10))
					}
					var requests atomic.Int64
					var answer atomic.Pointer[string] // the one that was lost
					fake.After(func(_ http.ResponseWriter, r *http.Request, k string) bool {
						if strings.Contains(r.URL.RawQuery, "list-type") {
							return false // Of opening.
						}
						seen := int(requests.Add(1))
						if seen == lost+1 {
							answer.Store(new(r.Method + " " + k + "?" + r.URL.RawQuery))
							panic(http.ErrAbortHandler)
						}
						if after := seen - lost - 1; silent[0] <= after && after <= silent[1] && after > 0 {
							panic(http.ErrAbortHandler)
						}
						return false
					})
					h, content := header("o"), enginetest.Content(size)
					o := transfer(t, url, smallPart, h, content)
					if answer.Load() == nil {
						break
					}
					what := fmt.Sprintf("%d bytes, answer %d (%s), silent %v", size, lost, *answer.Load(), silent)
					fake.After(nil)
					s := open(t, url, smallPart)
					got, err := enginetest.Read(t.Context(), s, "o", o.Generation, 0, 0, 1<<20, true)
					if err != nil || !bytes.Equal(got, content) {
						t.Fatalf("%s: got %d bytes, %v", what, len(got), err)
					}
					if _, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never); err != nil {
						t.Fatal(err)
					}
					if keys := fake.Keys(); len(keys) != 1 || len(fake.Uploads()) != 0 {
						t.Fatalf("%s: %d keys and %d uploads are left", what, len(keys), len(fake.Uploads()))
					}
				}
			}
		}
	}
}

// The answer to writing the record is lost, and before it is written again, another replica commits
// a part to the multipart upload that the record leads to.
func TestAWriterThatWasOvertakenIsToldWhereToContinue(t *testing.T) {
	fake, url := newFake(t)
	first, second := open(t, url, smallPart), open(t, url, smallPart)
	h, content := header("o"), enginetest.Content(3*smallPart+5)
	var overtaken atomic.Bool
	fake.After(func(_ http.ResponseWriter, r *http.Request, key string) bool {
		if r.Method != http.MethodPut || !strings.HasPrefix(key, uploadsPrefix) ||
			!overtaken.CompareAndSwap(false, true) {
			return false
		}
		u, err := enginetest.Send(t.Context(), second, h, content[:smallPart+5], 0)
		if err == nil {
			_, err = u.Pause()
			err = errors.Join(err, u.Close())
		}
		if err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	_, err := enginetest.Put(t.Context(), first, h, content)
	if at, ok := errors.AsType[*engine.OffsetError](err); !ok || at.Committed != smallPart {
		t.Errorf("got %v, want the offset %d", err, smallPart)
	}
	o := transfer(t, url, smallPart, h, content)
	got, err := enginetest.Read(t.Context(), second, "o", o.Generation, 0, 0, 1<<20, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// The third part arrives and the second one does not. What counts is what comes before the first
// that is missing, also for the SHA-256, which goes on from there in another process.
func TestAPartBehindOneThatFailedDoesNotCount(t *testing.T) {
	fake, url := newFake(t)
	h, content := header("o"), enginetest.Content(4*smallPart+5)
	sum := sha256.Sum256(content)
	h.Expect.SHA256 = sum[:]
	var up atomic.Bool
	third := make(chan struct{})
	fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Query().Get("partNumber") != "2" || up.Load() {
			return false
		}
		<-third
		panic(http.ErrAbortHandler)
	})
	var arrived sync.Once
	fake.After(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Query().Get("partNumber") == "3" {
			arrived.Do(func() { close(third) })
		}
		return false
	})
	u, err := open(t, url, smallPart).Begin(t.Context(), h, true)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range slices.Chunk(content[:3*smallPart+5], smallPart/2) {
		err = errors.Join(err, u.Append([][]byte{chunk}, crc32c.Checksum(chunk)))
	}
	if _, failed := u.Pause(); !errors.Is(errors.Join(err, failed), engine.ErrUnavailable) {
		t.Fatalf("got %v, %v", err, failed)
	}
	if committed := u.State().Committed; committed != smallPart {
		t.Errorf("%d bytes count", committed)
	}
	_ = u.Close() // It says again what has failed.
	up.Store(true)
	rest, err := enginetest.Send(t.Context(), open(t, url, smallPart), h, content, smallPart)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := rest.Finish(engine.Expect{}); err != nil || !bytes.Equal(o.SHA256, sum[:]) {
		t.Errorf("the SHA-256 is %x, %v, expected %x", o.SHA256, err, sum)
	}
	_ = rest.Close() // It is finished.
}

// A replica with another size of parts has begun the upload, and nothing of it is committed.
func TestPartsOfAnotherSizeThatNeverCameAreNoObstacle(t *testing.T) {
	fake, url := newFake(t)
	h, content := header("o"), enginetest.Content(5*smallPart+5)
	var up atomic.Bool
	fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Query().Has("partNumber") && !up.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if _, err := enginetest.Put(t.Context(), open(t, url, 2*smallPart), h, content); !errors.Is(err,
		engine.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	up.Store(true)
	s := open(t, url, smallPart)
	put(t, s, h, content)
	got, err := enginetest.Read(t.Context(), s, "o", 0, 0, 0, 1<<20, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// While a replica is about to make a request, another one does all that a caller can do. Whatever
// request that is, what the first one does afterwards brings nothing back and mixes nothing.
func TestAnUploadThatIsOvertakenBringsNothingBack(t *testing.T) {
	for _, size := range []int{1000, 2*smallPart + 5} {
		for _, act := range []string{"replace", "delete", "finish", "cancel", "expire"} {
			for at := 0; ; at++ {
				fake, url := newFake(t)
				first, second := open(t, url, smallPart), open(t, url, smallPart)
				h, content, other := header("o"), enginetest.Content(size), enginetest.Content(777)
				var requests atomic.Int64
				var overtaken atomic.Bool
				var made engine.Object
				fake.Before(func(_ http.ResponseWriter, _ *http.Request, _ string) bool {
					if requests.Add(1) != int64(at+1) {
						return false
					}
					overtaken.Store(true)
					var err error
					switch act {
					case "replace":
						made, err = enginetest.Put(t.Context(), second, header("o"), other)
					case "delete":
						if err = second.Delete(t.Context(), "o", 0); errors.Is(err, engine.ErrNotFound) {
							err = nil
						}
					case "finish":
						_, err = enginetest.Put(t.Context(), second, h, content)
						if errors.Is(err, engine.ErrOffsetMismatch) {
							err = nil
						}
					case "cancel":
						err = second.Cancel(t.Context(), h.UploadID, enginetest.AnyName)
						if errors.Is(err, engine.ErrUploadNotFound) {
							err = nil
						}
					case "expire":
						_, err = second.Expire(t.Context(), time.Now().Add(time.Hour), never)
					}
					if err != nil {
						t.Errorf("%s at %d: %v", act, at, err)
					}
					return false
				})
				o, err := enginetest.Put(t.Context(), first, h, content)
				fake.Before(nil)
				what := fmt.Sprintf("%d bytes, %s before request %d", size, act, at)
				allowed := []error{engine.ErrWriterReplaced, engine.ErrOffsetMismatch, engine.ErrUploadNotFound}
				known := func(e error) bool { return errors.Is(err, e) }
				if err != nil && !slices.ContainsFunc(allowed, known) {
					t.Fatalf("%s: %v", what, err)
				}
				got, readErr := enginetest.Read(t.Context(), second, "o", 0, 0, 0, 1<<20, true)
				switch {
				case readErr == nil && (bytes.Equal(got, content) || act == "replace" &&
					bytes.Equal(got, other)):
				case errors.Is(readErr, engine.ErrNotFound) && (err != nil || act == "delete"):
				default:
					t.Fatalf("%s: finished as %+v, %v; there are %d bytes, %v (the other one is %+v)", what, o,
						err, len(got), readErr, made)
				}
				if !overtaken.Load() {
					break
				}
			}
		}
	}
}

func TestADamagedBlockIsNeverSent(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	content := enginetest.Content(5*smallPart + 100)
	put(t, s, header("o"), content)
	flipped := 3*smallPart + 1000
	fake.Change(objectKey("o"), func(data []byte) []byte { data[flipped] ^= 1; return data })
	for _, fast := range []bool{true, false} {
		for _, from := range []int64{0, 3*smallPart + 2000, int64(flipped)} {
			got, err := enginetest.Read(t.Context(), s, "o", 0, from, 0, 10_000, fast)
			if !errors.Is(err, engine.ErrCorrupt) || len(got) > 3*smallPart ||
				!bytes.HasPrefix(content[from:], got) {
				t.Errorf("fast %v, from %d: got %d bytes, %v", fast, from, len(got), err)
			}
		}
		got, err := enginetest.Read(t.Context(), s, "o", 0, 4*smallPart, 0, 10_000, fast)
		if err != nil || !bytes.Equal(got, content[4*smallPart:]) {
			t.Errorf("after the damage: %d bytes, %v", len(got), err)
		}
	}
}

// An empty and a damaged object can be deleted, and nothing else fails because of them.
func TestADamagedObjectCanBeDeletedAndDelaysNothing(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"short":             func(data []byte) []byte { return data[:100] },
		"with another tail": func(data []byte) []byte { data[len(data)-100] ^= 1; return data },
	} {
		fake, url := newFake(t)
		s := open(t, url, smallPart)
		put(t, s, header("broken"), enginetest.Content(1000))
		put(t, s, header("well"), enginetest.Content(1000))
		fake.Change(objectKey("broken"), change)
		if _, err := s.Stat(t.Context(), "broken"); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), `"broken"`) {
			t.Errorf("%s: got %v", what, err)
		}
		if listed, _, err := s.List(t.Context(), "", "", 10); err != nil || len(listed) != 2 {
			t.Errorf("%s: listed %+v, %v", what, listed, err)
		}
		if _, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := s.Delete(t.Context(), "broken", 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestExpireLeavesNothingOfWhatWasAbandoned(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	put(t, s, header("kept"), enginetest.Content(3*smallPart))
	for range 3 {
		u, err := enginetest.Send(t.Context(), s, header("abandoned"), enginetest.Content(2*smallPart+10),
			0)
		if err != nil {
			t.Fatal(err)
		}
		_ = u.Close()
	}
	n, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never)
	if n != 3 || err != nil || len(fake.Uploads()) != 0 || len(fake.Keys()) != 1 {
		t.Errorf("%d expired, %v; %d uploads and %d keys are left", n, err, len(fake.Uploads()),
			len(fake.Keys()))
	}
}

func TestADamagedRecordIsToldWithItsReason(t *testing.T) {
	for content, reason := range map[string]string{"": "JSON", "{}": "leads to nothing"} {
		fake, url := newFake(t)
		s, h := open(t, url, smallPart), header("o")
		put(t, s, h, enginetest.Content(10))
		fake.Change(uploadKey(h.UploadID), func([]byte) []byte { return []byte(content) })
		if _, err := s.Upload(t.Context(), h.UploadID); !errors.Is(err, engine.ErrCorrupt) ||
			!strings.Contains(err.Error(), h.UploadID) || !strings.Contains(err.Error(), reason) ||
			strings.Contains(err.Error(), "%!") {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

func TestADamagedRecordDoesNotKeepOthersFromExpiring(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	for range 3 {
		put(t, s, header("o"), enginetest.Content(10))
	}
	for key := range fake.Keys() {
		if strings.HasPrefix(key, uploadsPrefix) {
			fake.Change(key, func([]byte) []byte { return nil })
			break
		}
	}
	if _, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never); err != nil {
		t.Error(err)
	}
	if left := len(fake.Keys()); left != 1 {
		t.Errorf("%d keys are left, want the object", left)
	}
}

// What an outage of S3 keeps from being removed is no error of the server: the next round removes
// it.
func TestAnOutageDuringExpiryIsAWarning(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	put(t, s, header("o"), enginetest.Content(10))
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	expire := func() error {
		_, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never)
		return err
	}
	fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		if r.Method == http.MethodDelete {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if err := expire(); !errors.Is(err, engine.ErrUnavailable) ||
		!strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("%v, logged:\n%s", err, &log)
	}
	fake.Before(nil)
	if err := expire(); err != nil || len(fake.Keys()) != 1 {
		t.Errorf("%v, and %d keys are left, want the object", err, len(fake.Keys()))
	}
}

// Two replicas make the same upload at once, as when a sender comes back before its old stream has
// ended elsewhere. There is one object, and both are told of that one, or that they have been
// replaced.
func TestReplicasThatFinishTogetherAgree(t *testing.T) {
	for _, size := range []int{1000, 3*smallPart + 5} {
		for range 30 {
			fake, url := newFake(t)
			replicas := []*S3{open(t, url, smallPart), open(t, url, smallPart)}
			h, content := header("o"), enginetest.Content(size)
			var objects [2]engine.Object
			var failed [2]error
			var both sync.WaitGroup
			for i, s := range replicas {
				both.Go(func() { objects[i], failed[i] = enginetest.Put(t.Context(), s, h, content) })
			}
			both.Wait()
			o := transfer(t, url, smallPart, h, content)
			for i, err := range failed {
				switch {
				case err == nil && objects[i].Generation != o.Generation:
					t.Errorf("%d bytes: got %+v and %+v", size, objects[i], o)
				case err != nil && !errors.Is(err, engine.ErrWriterReplaced) &&
					!errors.Is(err, engine.ErrOffsetMismatch):
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			got, err := enginetest.Read(t.Context(), replicas[0], "o", o.Generation, 0, 0, 1<<20, true)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes: got %d, %v", size, len(got), err)
			}
			if left := len(fake.Uploads()); left > 0 {
				t.Errorf("%d bytes: %d multipart uploads are left", size, left)
			}
		}
	}
}

func TestAResumedUploadNeedsRoomOnlyForItsRest(t *testing.T) {
	_, url := newFake(t)
	s := open(t, url, smallPart)
	s.Quota.Limit = 4 * smallPart
	h, content := header("o"), enginetest.Content(3*smallPart)
	h.Expect.Size = new(int64(len(content)))
	u, err := enginetest.Send(t.Context(), s, h, content[:2*smallPart], 0)
	if err == nil {
		_, err = u.Pause()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	if u, err = enginetest.Send(t.Context(), s, h, content, 2*smallPart); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(engine.Expect{}); err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	if _, err := s.Begin(t.Context(), engine.Header{UploadID: enginetest.ID(), Name: "p",
		Expect: engine.Expect{Size: new(int64(2 * smallPart))}}, true); !errors.Is(err,
		engine.ErrQuotaExceeded) {
		t.Errorf("got %v", err)
	}
}

// AWS answers ConditionalRequestConflict where two requests for one key are under way at once, also
// if what the key has is unchanged.
func TestAConflictOfASmallObjectIsTriedAgainAndNotForEver(t *testing.T) {
	for _, conflicts := range []int64{1, 3, 1 << 60} {
		for _, before := range []bool{false, true} {
			fake, url := newFake(t)
			s := open(t, url, smallPart)
			if before {
				put(t, s, header("o"), enginetest.Content(10))
			}
			var left atomic.Int64
			left.Store(conflicts)
			fake.Before(func(w http.ResponseWriter, r *http.Request, key string) bool {
				if r.Method != http.MethodPut || key != objectKey("o") || left.Add(-1) < 0 {
					return false
				}
				s3test.Fail(w, http.StatusConflict, "ConditionalRequestConflict")
				return true
			})
			content := enginetest.Content(1000)
			_, err := enginetest.Put(t.Context(), s, header("o"), content)
			if conflicts > maxChanges {
				if !errors.Is(err, engine.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				continue
			}
			got, readErr := enginetest.Read(t.Context(), s, "o", 0, 0, 0, 1<<20, true)
			if err != nil || readErr != nil || !bytes.Equal(got, content) {
				t.Errorf("%d conflicts: %v, and there are %d bytes, %v", conflicts, err, len(got), readErr)
			}
		}
	}
}

// Another replica removes an upload while it is finished: its parts are gone when they are to be
// put together, and its record is still there.
func TestAFinishOfWhatIsBeingRemovedIsNotAcknowledged(t *testing.T) {
	for what, remove := range map[string]func(*S3, string) error{
		"cancelled": func(s *S3, id string) error { return s.Cancel(t.Context(), id, enginetest.AnyName) },
		"expired": func(s *S3, _ string) error {
			_, err := s.Expire(t.Context(), time.Now().Add(time.Hour), never)
			return err
		},
	} {
		fake, url := newFake(t)
		first, second := open(t, url, smallPart), open(t, url, smallPart)
		h := header("o")
		aborted, finished, removed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		var begin, abort sync.Once
		fake.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			if completes(r) {
				begin.Do(func() {
					go func() { removed <- remove(second, h.UploadID) }()
					<-aborted
				})
			}
			return false
		})
		fake.After(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			if r.Method == http.MethodDelete && r.URL.Query().Has("uploadId") {
				abort.Do(func() {
					close(aborted)
					<-finished
				})
			}
			return false
		})
		o, err := enginetest.Put(t.Context(), first, h, enginetest.Content(2*smallPart+5))
		close(finished)
		if !errors.Is(err, engine.ErrWriterReplaced) {
			t.Errorf("%s: finished as %+v, %v", what, o, err)
		}
		if err := <-removed; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if keys := fake.Keys(); len(keys) > 0 {
			t.Errorf("%s: there are %d keys", what, len(keys))
		}
	}
}

func TestTheQuotaCountsNeitherWhatWasReplacedNorWhatFailed(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	check := func(what string, uploads int64) {
		t.Helper()
		want := uploads
		for key, data := range fake.Keys() {
			if strings.HasPrefix(key, objectsPrefix) {
				want += int64(len(data)) + engine.FileOverhead
			}
		}
		if held := s.Quota.Held(); held != want {
			t.Errorf("%s: %d are counted, want %d", what, held, want)
		}
	}
	for _, size := range []int{1000, 2000, 0} {
		put(t, s, header("o"), enginetest.Content(size))
		check("replaced", 0)
	}
	put(t, s, header("large"), enginetest.Content(2*smallPart+5))
	check("large", 0)
	fake.Before(func(w http.ResponseWriter, r *http.Request, key string) bool {
		query, writes := r.URL.Query(), r.Method == http.MethodPost || r.Method == http.MethodPut
		if !strings.HasPrefix(key, objectsPrefix) || !writes || query.Has("partNumber") ||
			query.Has("uploads") {
			return false
		}
		s3test.Fail(w, http.StatusForbidden, "AccessDenied")
		return true
	})
	for size, parts := range map[int]int64{1000: 0, 2*smallPart + 5: 2} {
		if _, err := enginetest.Put(t.Context(), s, header("o"), enginetest.Content(size)); err == nil {
			t.Fatal("it did not fail")
		}
		check("failed", parts*smallPart)
		s.Quota.Give(parts * smallPart)
	}
}

// S3 sends a part of its answer, and then nothing.
func TestADownloadDoesNotWaitForEverForS3(t *testing.T) {
	fake, url := newFake(t)
	s := open(t, url, smallPart)
	put(t, s, header("o"), enginetest.Content(3*smallPart))
	s.idle = 50 * time.Millisecond
	fake.Before(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if asked := r.Header.Get("Range"); asked == "" || strings.HasPrefix(asked, "bytes=-") {
			return false
		}
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 1000))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	for _, fast := range []bool{true, false} {
		if _, err := enginetest.Read(t.Context(), s, "o", 0, 0, 0, 1<<20,
			fast); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("fast %v: %v", fast, err)
		}
	}
}

// panicking panics where it is to send or fetch a part.
type panicking struct{ awss3.HTTPClient }

func (p panicking) Do(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") || r.URL.Query().Has("partNumber") {
		panic("a bug")
	}
	return p.HTTPClient.Do(r)
}

func TestAPanicOfAGoroutineIsAnErrorOfItsTransfer(t *testing.T) {
	_, url := newFake(t)
	s, content := open(t, url, smallPart), enginetest.Content(3*smallPart)
	put(t, s, header("o"), content)
	s.client = awss3.New(s.client.Options(), func(o *awss3.Options) {
		o.HTTPClient = panicking{o.HTTPClient}
	})
	_, err := enginetest.Put(t.Context(), s, header("p"), content)
	_, readErr := enginetest.Read(t.Context(), s, "o", 0, 0, 0, 1<<20, true)
	for what, err := range map[string]error{"upload": err, "download": readErr} {
		if err == nil || !strings.Contains(err.Error(), "panic: a bug") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// An answer that ends where a piece or a block does, as that of a key that was cut, is not the end
// of the object.
func TestADownloadThatS3CutsDoesNotEndWell(t *testing.T) {
	content := enginetest.Content(16 * pieceBytes)
	for _, fast := range []bool{true, false} {
		for pieces := range 15 {
			fake, url := newFake(t)
			s := open(t, url, 4*pieceBytes)
			put(t, s, header("o"), content)
			r, err := s.Open(t.Context(), "o", 0, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			fake.Change(objectKey("o"), func(data []byte) []byte { return data[:(1+pieces)*pieceBytes] })
			for p := make([]byte, pieceBytes/2); err == nil; {
				_, _, err = r.Next(p, fast)
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("fast %v: the end of %d pieces is the end of the object", fast, 1+pieces)
			}
			_ = r.Close()
		}
	}
}
