package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.com/quartet/server/object/store/s3test"
)

const houseTTL = time.Hour

// Several replicas take uploads, some of which stall or are abandoned, replace and delete objects, fail to remove things
// and die between a part and its record, while all of them keep house. Whatever was acknowledged stays whole. Once
// everything is old and was swept, exactly the keys of what is visible are left.
func TestHousekeepingKeepsWhatIsVisibleAndNothingElse(t *testing.T) {
	for engine, open := range map[string]func(t *testing.T, trouble *trouble) []*Store{
		"file": oneFolder, "mem": threeOnMem, "s3": threeOnS3,
	} {
		t.Run(engine, func(t *testing.T) {
			random := newRandom(t)
			synctest.Test(t, func(t *testing.T) {
				trouble := &trouble{random: mathrand.New(mathrand.NewPCG(random.Uint64(), 0))}
				h := &household{t: t, stores: open(t, trouble), end: time.Now().Add(12 * houseTTL)}
				h.live(random)
				trouble.over.Store(true)
				for range 2 { // What the first gives up has a seal, which the second finds.
					time.Sleep(2 * houseTTL)
					h.tidy(h.stores[0])
				}
				h.inspect()
			})
		})
	}
}

// trouble makes removals of parts and the creation of their records fail at random, until it is over.
type trouble struct {
	mu     sync.Mutex
	random *mathrand.Rand
	over   atomic.Bool
}

var (
	errTrouble = errors.New("the request got lost")
	recordName = regexp.MustCompile(`^uploads/.*\.\d{8}$`)
)

func (tr *trouble) strikes(removal bool, key string) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	dice := tr.random.Float64()
	switch {
	case tr.over.Load():
		return false
	case removal:
		return strings.HasPrefix(key, partsFolder) && dice < 0.3
	default:
		return recordName.MatchString(key) && dice < 0.1
	}
}

func (tr *trouble) fail(operation, key string) error {
	if (operation == "discard" || operation == "create") && tr.strikes(operation == "discard", key) {
		return errTrouble
	}
	return nil
}

func oneFolder(t *testing.T, trouble *trouble) []*Store {
	s := openFolder(t, t.TempDir())
	t.Cleanup(func() { closeStore(t, s) })
	s.bucket = &faulty{bucket: s.bucket, fail: trouble.fail}
	return []*Store{s}
}

func threeOnMem(t *testing.T, trouble *trouble) (stores []*Store) {
	shared := memBucket()
	for range 3 {
		stores = append(stores, openOn(t, &faulty{bucket: shared, fail: trouble.fail}))
	}
	return stores
}

// threeOnS3 needs no connection, which would stop the clock of the test.
func threeOnS3(t *testing.T, trouble *trouble) (stores []*Store) {
	f := s3test.New()
	f.Before = func(w http.ResponseWriter, r *http.Request, key string) bool {
		changes := r.Method == http.MethodDelete || r.Header.Get("If-None-Match") != ""
		if changes && trouble.strikes(r.Method == http.MethodDelete, key) {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
			return true
		}
		return false
	}
	for range 3 {
		stores = append(stores, openInProcess(t, f))
	}
	return stores
}

func openInProcess(t *testing.T, f *s3test.Fake) *Store {
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://s3"), UsePathStyle: true, HTTPClient: inProcess{f},
		Credentials: aws.AnonymousCredentials{},
	})
	return openOn(t, &s3Bucket{client: client, name: s3test.Bucket, partSize: smallPart, closeIdle: func() {}})
}

type inProcess struct{ http.Handler }

func (h inProcess) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

type household struct {
	t         *testing.T
	stores    []*Store
	end       time.Time
	residents []*resident
}

// live ends when everybody has.
func (h *household) live(random *mathrand.Rand) {
	var group sync.WaitGroup
	for _, s := range h.stores {
		own := mathrand.New(mathrand.NewPCG(random.Uint64(), 0))
		group.Go(func() {
			for time.Now().Before(h.end) {
				h.tidy(s)
				time.Sleep(time.Duration(own.Int64N(int64(houseTTL / 3))))
			}
		})
	}
	for range 4 {
		r := &resident{household: h, random: mathrand.New(mathrand.NewPCG(random.Uint64(), 0)), objects: map[string][]byte{}}
		r.names = []string{newID(), newID()}
		h.residents = append(h.residents, r)
		group.Go(r.live)
	}
	group.Wait()
}

func (h *household) tidy(s *Store) {
	for what, do := range map[string]func(context.Context, time.Time) (int, error){"Expire": s.Expire, "Sweep": s.Sweep} {
		if _, err := do(h.t.Context(), time.Now().Add(-houseTTL)); err != nil && !isTrouble(err) {
			h.t.Errorf("%s: %v", what, err)
		}
	}
}

func isTrouble(err error) bool {
	return errors.Is(err, errTrouble) || errorCode(err) == "AccessDenied"
}

// inspect compares the bucket with what must be in it.
func (h *household) inspect() {
	var want []string
	s := h.stores[0]
	for _, r := range h.residents {
		for _, name := range r.names {
			r.look(s, name)
			if m, err := s.readManifest(h.t.Context(), name); err == nil {
				keys := m.keys()
				if len(m.Parts) == 0 {
					delete(keys, m.key().ownerKey())
				}
				for key := range keys {
					want = append(want, key)
				}
				want = append(want, manifestKey(name))
			}
		}
	}
	if len(h.stores) == 1 { // Nobody else takes part in its quota.
		wantHeld(h.t, s, stored(h.t, s))
	}
	slices.Sort(want)
	got := slices.Concat(keysIn(h.t, s, objectsFolder), keysIn(h.t, s, partsFolder), keysIn(h.t, s, uploadsFolder))
	if !slices.Equal(got, want) {
		h.t.Errorf("%d keys are left:\n%s\nwant %d:\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}

// resident is a caller with names of its own, so that it knows what must be there.
type resident struct {
	*household
	random  *mathrand.Rand
	names   []string
	objects map[string][]byte
	ids     []string
}

func (r *resident) store() *Store { return r.stores[r.random.IntN(len(r.stores))] }

func (r *resident) rest(most time.Duration) { time.Sleep(time.Duration(r.random.Int64N(int64(most)))) }

func (r *resident) live() {
	for time.Now().Before(r.end) {
		r.rest(houseTTL / 4)
		name := r.names[r.random.IntN(len(r.names))]
		switch r.random.IntN(8) {
		case 0:
			r.delete(name)
		case 1:
			r.look(r.store(), name)
		default:
			r.upload(name)
		}
	}
}

func (r *resident) delete(name string) {
	if err := r.store().Delete(r.t.Context(), name, 0); err != nil && !errors.Is(err, ErrNotFound) {
		r.t.Errorf("Delete: %v", err)
		return
	}
	delete(r.objects, name)
}

func (r *resident) look(s *Store, name string) {
	want, exists := r.objects[name]
	reader, err := s.OpenReader(r.t.Context(), name, 0, 0, 0)
	if !exists && errors.Is(err, ErrNotFound) {
		return
	}
	if err != nil {
		r.t.Errorf("an object of %d bytes (there: %v): %v", len(want), exists, err)
		return
	}
	defer reader.Close()
	if got, err := io.ReadAll(reader); err != nil || !exists || !bytes.Equal(got, want) {
		r.t.Errorf("%d bytes, %v, want %d bytes (there: %v)", len(got), err, len(want), exists)
	}
}

// upload sends an object in several sittings on any of the stores, or gives up in between.
func (r *resident) upload(name string) {
	h := Header{UploadID: r.uploadID(), Name: name}
	data := randomBytes(r.t, r.random.IntN(4*smallPart))
	for committed, active := int64(0), time.Now(); ; {
		w, err := r.store().OpenWriter(r.t.Context(), h)
		if err != nil {
			return
		}
		if w.Committed() < committed && time.Since(active) < houseTTL {
			r.t.Errorf("%d bytes are committed, want %d", w.Committed(), committed)
		}
		if w.progress.seal != nil || (committed == 0 && w.Committed() > 0) { // An id that is still in use.
			_ = w.Close()
			return
		}
		var done bool
		if committed, done = r.sit(w, data); done {
			return
		}
		active = w.progress.active
		r.rest(houseTTL / 2)
	}
}

// uploadID sometimes is one that was used before.
func (r *resident) uploadID() string {
	if len(r.ids) > 0 && r.random.IntN(4) == 0 {
		return r.ids[r.random.IntN(len(r.ids))]
	}
	r.ids = append(r.ids, newID())
	return r.ids[len(r.ids)-1]
}

// sit sends some of the data through one writer, and returns how much is committed or that the upload is over.
func (r *resident) sit(w *Writer, data []byte) (committed int64, done bool) {
	defer w.Close()
	upTo := w.Committed() + r.random.Int64N(int64(len(data))-w.Committed()+1)
	if err := trySend(w, data[:upTo], w.Committed()); err != nil {
		return 0, true
	}
	switch r.random.IntN(6) {
	case 0:
		return 0, true // Nobody returns to it.
	case 1: // It stalls, perhaps for longer than it is kept.
		select {
		case <-w.Replaced():
		case <-time.After(time.Duration(r.random.Int64N(int64(3 * houseTTL)))):
		}
	case 2:
		committed, err := w.Pause()
		return committed, err != nil
	}
	if trySend(w, data, upTo) != nil {
		return 0, true
	}
	if _, err := w.Finish(Expect{SHA256: sum(data)}); err == nil {
		r.objects[w.progress.header.Name] = data
	} else if errors.Is(err, ErrCorrupt) {
		r.t.Errorf("Finish: %v", err)
	}
	return 0, true
}
