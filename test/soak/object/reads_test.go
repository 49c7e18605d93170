package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// download reads an object, or a range of it, of whatever generation there is or of one that there
// was.
func (w *worker) download() {
	name := w.anyName()
	var options object.DownloadOptions
	if w.random.IntN(3) == 0 {
		options.Offset, options.Limit = w.random.Int64N(partBytes*3), w.random.Int64N(partBytes*3)
	}
	var wanted *upload
	if known := w.model.versions(name); len(known) > 0 && w.random.IntN(3) == 0 {
		wanted = known[max(0, len(known)-1-w.random.IntN(3))]
		options.Generation = wanted.generation
	}
	w.fetch(name, options, wanted)
}

func (w *worker) fetch(name string, options object.DownloadOptions, wanted *upload) {
	ctx, cancel := bounded()
	defer cancel()
	var got bytes.Buffer
	var to io.Writer = &got
	if w.random.IntN(5) == 0 {
		to = slowly{to, w.random}
	}
	invoked := w.model.invoke()
	o, err := w.client().Download(ctx, name, to, options)
	what := fmt.Sprintf("download %q (generation %d, offset %d, limit %d)",
		name, options.Generation, options.Offset, options.Limit)
	if err != nil {
		w.missed(what, name, wanted, invoked, err)
		return
	}
	w.tell("%s: %d bytes of generation %d", what, got.Len(), o.GetGeneration())
	if u := w.model.saw(name, o, invoked); u != nil &&
		!bytes.Equal(got.Bytes(), within(u.content.data, options)) {
		w.broken(fmt.Sprintf("%s: the bytes are not those of %s", what, u))
	}
	if options.Generation != 0 && options.Generation != o.GetGeneration() {
		w.broken(fmt.Sprintf("%s: this is generation %d", what, o.GetGeneration()))
	}
	w.counts.downloads.Add(1)
	if options.Offset > 0 || options.Limit > 0 {
		w.counts.ranges.Add(1)
	}
}

// within is the range of data that a download asks for; the server has said that its offset is
// inside.
func within(data []byte, options object.DownloadOptions) []byte {
	data = data[min(options.Offset, int64(len(data))):]
	if options.Limit > 0 {
		data = data[:min(options.Limit, int64(len(data)))]
	}
	return data
}

// missed checks a download that failed.
func (w *worker) missed(what, name string, wanted *upload, invoked time.Duration, err error) {
	switch {
	case errors.Is(err, object.ErrChanged) && wanted != nil:
		w.model.sawAnother(wanted, invoked)
	case errors.Is(err, object.ErrChanged):
		w.model.sawChange(name, invoked)
	case is(err, "OBJECT_NOT_FOUND") && wanted == nil:
		w.nothing(name, invoked)
	case is(err, "OUT_OF_RANGE"):
	default:
		w.tolerate(what, err)
		return
	}
	w.tell("%s: %v", what, err)
}

func (w *worker) nothing(name string, invoked time.Duration) {
	w.model.sawNothing(name, invoked)
	w.counts.absences.Add(1)
}

func (w *worker) look() { w.lookAt(w.anyName()) }

// lookAt returns the object of a name, nil if there is none, and whether it got an answer.
func (w *worker) lookAt(name string) (o *quartetv1.Object, answered bool) {
	ctx, cancel := bounded()
	defer cancel()
	invoked := w.model.invoke()
	o, err := w.client().Get(ctx, name)
	switch {
	case err == nil:
		w.tell("get %q: generation %d", name, o.GetGeneration())
		w.model.saw(name, o, invoked)
	case is(err, "OBJECT_NOT_FOUND"):
		w.tell("get %q: nothing", name)
		w.nothing(name, invoked)
	default:
		w.tolerate("get "+name, err)
		return nil, false
	}
	return o, true
}

// list looks at all names of one age, each of which is listed once and in its place, unless it is
// not there.
func (w *worker) list() {
	age := w.random.IntN(w.age() + 1)
	if w.random.IntN(2) == 0 {
		age = w.age()
	}
	w.listAge(age)
	w.counts.lists.Add(1)
}

// listAge returns the names with one more than their sizes, and whether it got all of the answer.
func (w *worker) listAge(age int) (listed map[string]uint64, answered bool) {
	ctx, cancel := bounded()
	defer cancel()
	listed, last, invoked := map[string]uint64{}, "", w.model.invoke()
	for o, err := range w.client().List(ctx, fmt.Sprintf("age %04d/", age)) {
		if err != nil {
			w.tolerate("list", err)
			return nil, false
		}
		if o.GetName() <= last {
			w.broken(fmt.Sprintf("%q is listed after %q", o.GetName(), last))
		}
		last = o.GetName()
		listed[last] = o.GetSizeBytes() + 1
		w.model.sawListed(last, o.GetSizeBytes(), invoked)
	}
	w.tell("list age %d: %v", age, listed)
	for i := range namesAtOnce {
		if name := name(age, i); listed[name] == 0 {
			w.model.unlisted(name, invoked)
		}
	}
	return listed, true
}

// delete deletes one of the names that may be deleted, or one generation of it.
func (w *worker) delete() {
	ctx, cancel := bounded()
	defer cancel()
	name := name(w.age(), namesAtOnce/2+w.random.IntN(namesAtOnce/2))
	options := object.DeleteOptions{AllowMissing: w.random.IntN(2) == 0}
	var wanted *upload
	if known := w.model.versions(name); len(known) > 0 && w.random.IntN(2) == 0 {
		wanted = known[max(0, len(known)-1-w.random.IntN(3))]
		options.Generation = wanted.generation
	}
	w.remove(ctx, name, options, wanted)
}

func (w *worker) remove(
	ctx context.Context, name string, options object.DeleteOptions, wanted *upload,
) {
	ctx, attempts := withAttempts(ctx)
	d := w.model.deleting(name, options.Generation)
	err := w.client().Delete(ctx, name, options)
	w.tell("delete %q (generation %d): %v", name, options.Generation, err)
	gone := is(err, "GENERATION_GONE") && wanted != nil
	missing := status.Code(err) == codes.NotFound && !options.AllowMissing
	switch once := attempts.Load() <= 1; {
	case once && (gone || missing):
		w.model.refused(d)
	case once && err == nil:
		w.model.deleted(d, 0)
	default: // An attempt whose answer was lost may still be at work.
		w.model.deleted(d, lingering)
	}
	switch {
	case gone:
		w.model.sawAnother(wanted, d.invoked)
	case missing, err == nil:
		w.nothing(name, d.invoked)
		w.counts.deletions.Add(1)
	default:
		w.tolerate("delete "+name, err)
	}
}

// slowly is a writer that takes its time.
type slowly struct {
	next   io.Writer
	random *rand.Rand
}

func (s slowly) Write(p []byte) (int, error) {
	time.Sleep(between(s.random, 0, 10*time.Millisecond))
	return s.next.Write(p)
}
