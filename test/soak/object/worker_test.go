package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"example.com/quartet/client/object"
)

// worker calls the servers, one operation after another that it chooses by numbers of its own.
type worker struct {
	*topology
	number int
	actor  string
	random *rand.Rand
	begun  int
	done   []*job // the last uploads that were acknowledged
}

const (
	// namesAtOnce is how many names are in use at a time; the first half of them is never deleted.
	namesAtOnce = 6
	// stepsPerAge is after how many operations, of all workers, other names come into use. Those of
	// before are only looked at.
	stepsPerAge = 600
	opTimeout   = 10 * time.Second
)

func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		w.counts.steps.Add(1)
		pick(w.random, []choice[func()]{
			{6, w.upload}, {4, w.abandon}, {5, w.goOn}, {3, w.pair}, {2, w.replay}, {3, w.attack},
			{8, w.download}, {3, w.look}, {3, w.delete}, {1, w.list}, {2, w.ask},
		})()
	}
}

// name is one of those in use now.
func (w *worker) name() string { return name(w.age(), w.random.IntN(namesAtOnce)) }

// anyName is one that is in use, or now and then one of before.
func (w *worker) anyName() string {
	if w.random.IntN(6) > 0 {
		return w.name()
	}
	return name(w.random.IntN(w.age()+1), w.random.IntN(namesAtOnce))
}

func name(age, number int) string { return fmt.Sprintf("age %04d/%d", age, number) }

func (w *topology) age() int { return int(w.counts.steps.Load() / stepsPerAge) }

func (w *worker) client() *object.Client { return w.clients[w.random.IntN(len(w.clients))] }

func (w *worker) tell(format string, args ...any) { w.ring.add(w.actor, format, args...) }

// bounded is the context of one operation, which none of them should need.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), opTimeout)
}

// job is an upload and how it is made. All calls for it state the same.
type job struct {
	*upload
	options  object.UploadOptions
	seekable bool
}

func (w *worker) newJob() *job {
	w.begun++
	c := w.library.content(w.number*100_000 + w.begun)
	u := &upload{id: fmt.Sprintf("soak-%04d-%08d", w.number, w.begun), name: w.name(), content: c}
	if w.random.IntN(3) == 0 {
		sum := sha256.Sum256(c.data)
		u.sha256 = sum[:]
	}
	w.model.begin(u)
	options := object.UploadOptions{ID: u.id, ContentType: c.mediaType(), SHA256: u.sha256 != nil}
	if w.random.IntN(2) == 0 {
		options.Size = int64(len(c.data))
	}
	return &job{u, options, w.random.IntN(2) == 0}
}

func (j *job) source() io.Reader {
	if j.seekable {
		return bytes.NewReader(j.content.data)
	}
	return struct{ io.Reader }{bytes.NewReader(j.content.data)}
}

// pool has the uploads that no worker has taken and that may be continued.
const poolSize = 40

func (w *worker) leave(j *job) {
	w.poolMu.Lock()
	defer w.poolMu.Unlock()
	if len(w.pool) < poolSize {
		w.pool = append(w.pool, j)
	}
}

// take returns an upload that was left, or nil if there is none.
func (w *worker) take() *job {
	w.poolMu.Lock()
	defer w.poolMu.Unlock()
	w.pool = slices.DeleteFunc(w.pool, w.retired)
	if len(w.pool) == 0 {
		return nil
	}
	i := w.random.IntN(len(w.pool))
	j := w.pool[i]
	w.pool = slices.Delete(w.pool, i, i+1)
	return j
}

// settle keeps a job for later: to be replayed, or to be continued.
func (w *worker) settle(j *job, acknowledged bool) {
	if !acknowledged {
		w.leave(j)
		return
	}
	if w.done = append(w.done, j); len(w.done) > 30 {
		w.done = w.done[1:]
	}
}

// acknowledged returns one of the last uploads that were, or nil if there is none.
func (w *worker) acknowledged() *job {
	w.done = slices.DeleteFunc(w.done, w.retired)
	if len(w.done) == 0 {
		return nil
	}
	return w.done[w.random.IntN(len(w.done))]
}

// tolerate fails the test unless the error is one that is clear. It is not called for what a caller
// asked for.
func (w *worker) tolerate(what string, err error) {
	w.tell("%s: %v", what, err)
	w.counts.tolerated.Add(1)
	if !tolerable(err) {
		w.broken(fmt.Sprintf("%s: %s: %v", w.actor, what, err))
	}
}
