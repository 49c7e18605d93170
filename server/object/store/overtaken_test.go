package store

import (
	"bytes"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/quartet/server/object/store/s3test"
)

// overtaking is an object that two replicas do something to at the same time.
type overtaking struct {
	*testing.T
	header        Header
	first, second []byte
	// old is when the object was finished: what is from before may be forgotten.
	old time.Time
}

type deed func(o *overtaking, s *Store)

// Before any request that one replica makes, whatever for, another one does something else from beginning to end. What
// is visible stays whole, what nobody deleted stays visible, and once everything is old nothing else is left.
func TestWhateverOvertakesAReplicaAnObjectStaysWhole(t *testing.T) {
	deeds := map[string]deed{
		"housekeeping": (*overtaking).keepHouse, "finishing again": (*overtaking).finishAgain,
		"replacing": (*overtaking).replace, "deleting": (*overtaking).remove,
	}
	for what, do := range deeds {
		for other, overtake := range deeds {
			t.Run(what+" overtaken by "+other, func(t *testing.T) {
				t.Parallel()
				for _, recorded := range []bool{true, false} {
					step := int64(1)
					for overtakenAt(t, step, recorded, do, overtake, what == "deleting" || other == "deleting") {
						step++
					}
					if step == 1 {
						t.Error("there were no requests")
					}
				}
			})
		}
	}
}

// overtakenAt returns false once there are fewer requests. Unless the upload's end is recorded, the process that finished
// it died between the manifest and the record.
func overtakenAt(t *testing.T, step int64, recorded bool, do, overtake deed, deleted bool) (reached bool) {
	f, steps := s3test.New(), atomic.Int64{}
	s, elsewhere := openInProcess(t, f), openInProcess(t, f)
	o := &overtaking{t, Header{UploadID: newID(), Name: "n"}, randomBytes(t, 2500), randomBytes(t, 1500), time.Time{}}
	o.create(s, f, recorded)
	f.Before = func(http.ResponseWriter, *http.Request, string) bool {
		if steps.Add(1) == step {
			reached = true
			overtake(o, elsewhere)
		}
		return false
	}
	do(o, s)
	f.Before = nil
	o.inspect(s, step, deleted)
	for range 3 { // What the first gives up has a seal, which the others find.
		o.old = later()
		o.keepHouse(s)
	}
	o.inspect(s, step, deleted)
	left := 0
	if m, err := s.readManifest(t.Context(), "n"); err == nil {
		left = len(m.Parts)
		wantKeys(t, s, objectsFolder, 1)
	}
	wantParts(t, s, left)
	wantKeys(t, s, uploadsFolder, 0)
	return reached
}

func (o *overtaking) create(s *Store, f *s3test.Fake, recorded bool) {
	w := openWriter(o, s, o.header)
	send(o, w, o.first, 0)
	record := completeKey(w.progress.id, w.progress.header.Generation)
	f.Before = func(w http.ResponseWriter, r *http.Request, key string) bool {
		dead := r.Method == http.MethodPut && key == record && !recorded
		if dead {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
		}
		return dead
	}
	if _, err := w.Finish(Expect{}); (err == nil) != recorded {
		o.Fatalf("Finish: %v", err)
	}
	_ = w.Close()
	o.old = time.Now()
}

func (o *overtaking) inspect(s *Store, step int64, deleted bool) {
	o.Helper()
	if _, err := s.Get(o.Context(), "n"); errors.Is(err, ErrNotFound) && deleted {
		return
	}
	if got := download(o, s, "n"); !bytes.Equal(got, o.first) && !bytes.Equal(got, o.second) {
		o.Fatalf("before request %d: the content differs", step)
	}
}

func (o *overtaking) keepHouse(s *Store) {
	if _, err := s.Expire(o.Context(), o.old); err != nil {
		o.Error(err)
	}
	if _, err := s.Sweep(o.Context(), o.old); err != nil {
		o.Error(err)
	}
}

func (o *overtaking) finishAgain(s *Store) {
	w, err := s.OpenWriter(o.Context(), o.header)
	if err != nil {
		o.Error(err)
		return
	}
	defer w.Close()
	if w.Committed() < int64(len(o.first)) { // It is forgotten, and would begin anew.
		return
	}
	if _, err := w.Finish(Expect{}); err != nil && !errors.Is(err, ErrWriterReplaced) {
		o.Error(err)
	}
}

func (o *overtaking) replace(s *Store) {
	if _, err := tryUpload(s, "n", o.second); err != nil {
		o.Error(err)
	}
}

func (o *overtaking) remove(s *Store) {
	if err := s.Delete(o.Context(), "n", 0); err != nil && !errors.Is(err, ErrNotFound) {
		o.Error(err)
	}
}
