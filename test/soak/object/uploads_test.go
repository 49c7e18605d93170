package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// send makes one call for an upload, and tells whether it was acknowledged.
func (w *worker) send(
	ctx context.Context, client *object.Client, j *job, options object.UploadOptions,
) bool {
	o, err := client.Upload(ctx, j.name, j.source(), options)
	what := fmt.Sprintf("upload %s to %q (%d bytes, continue %v)", j.id, j.name, len(j.content.data), options.Continue)
	if errors.Is(err, object.ErrUploadMismatch) && w.model.mayBeGone(j.upload) {
		w.tell("%s: %v", what, err) // An earlier call has finished it, and its object has gone since.
		return true
	}
	if err != nil && strings.Contains(err.Error(), "the source cannot be read again") &&
		w.model.mayReturn(j.upload) {
		w.tell("%s: %v", what, err) // The same, and it would be made again if it could be sent again.
		return true
	}
	if err != nil {
		if ctx.Err() != nil {
			what += ", abandoned"
		}
		w.tolerate(what, err)
		return false
	}
	w.tell("%s: generation %d", what, o.GetGeneration())
	w.model.acknowledge(j.upload, o)
	w.counts.uploads.Add(1)
	return true
}

func (w *worker) upload() {
	ctx, cancel := bounded()
	defer cancel()
	j := w.newJob()
	w.settle(j, w.send(ctx, w.client(), j, j.options))
}

// abandon begins an upload and goes away in the middle of it.
func (w *worker) abandon() {
	ctx, cancel := bounded()
	defer cancel()
	j := w.newJob()
	options, enough := j.options, w.random.Int64N(int64(len(j.content.data)+1))
	options.Progress = func(p object.Progress) {
		if p.Done >= enough {
			cancel()
		}
	}
	w.settle(j, w.send(ctx, w.client(), j, options))
}

// goOn continues what a worker has abandoned, or what has failed.
func (w *worker) goOn() {
	j := w.take()
	if j == nil {
		return
	}
	ctx, cancel := bounded()
	defer cancel()
	options := j.options
	options.Continue = true
	acknowledged := w.send(ctx, w.client(), j, options)
	if acknowledged {
		w.counts.continued.Add(1)
	}
	w.settle(j, acknowledged)
}

// pair has two writers make the same upload at once.
func (w *worker) pair() {
	j := w.take()
	if j == nil || w.random.IntN(2) == 0 {
		j = w.newJob()
	}
	ctx, cancel := bounded()
	defer cancel()
	options := j.options
	options.Continue = true
	var both sync.WaitGroup
	var acknowledged [2]bool
	for i := range acknowledged {
		client, later := w.client(), between(w.random, 0, 50*time.Millisecond)
		both.Go(func() {
			if wait(ctx, later) {
				acknowledged[i] = w.send(ctx, client, j, options)
			}
		})
	}
	both.Wait()
	w.counts.pairs.Add(1)
	w.settle(j, acknowledged[0] || acknowledged[1])
}

// replay finishes an upload that is finished, whatever has become of its object since then.
func (w *worker) replay() {
	j := w.acknowledged()
	if j == nil {
		return
	}
	ctx, cancel := bounded()
	defer cancel()
	response, err := w.sendRaw(ctx, j.header(), finish(j.content))
	if w.model.mayReturn(j.upload) && (is(err, "OFFSET_MISMATCH") || is(err, "SIZE_MISMATCH")) {
		// Its object was deleted, and this has no content to make it again, or not all of it where
		// another sender has begun to.
		return
	}
	if err != nil {
		w.tolerate("replay the finish of "+j.id, err)
		return
	}
	w.tell("replay the finish of %s: generation %d", j.id, response.GetObject().GetGeneration())
	w.model.acknowledge(j.upload, response.GetObject())
	w.counts.replays.Add(1)
}

// ask asks how far an upload is, which may be finished.
func (w *worker) ask() {
	if done := w.acknowledged(); done != nil && w.random.IntN(2) == 0 {
		w.askFor(done.upload)
		return
	}
	j := w.take()
	if j == nil {
		return
	}
	defer w.leave(j)
	w.askFor(j.upload)
}

func (w *worker) askFor(u *upload) {
	ctx, cancel := bounded()
	defer cancel()
	before := w.model.ask(u)
	state, err := w.client().GetUpload(ctx, u.id)
	if err != nil {
		w.tolerate("ask for "+u.id, err)
		return
	}
	w.tell("ask for %s: %d, object %v", u.id, state.GetCommittedSizeBytes(), state.HasObject())
	w.model.stands(u, before, int64(state.GetCommittedSizeBytes()), state.GetObject())
}

func (j *job) header() *quartetv1.UploadObjectRequest {
	h := quartetv1.UploadHeader_builder{
		UploadId: j.id, Name: j.name, ContentType: j.options.ContentType, HashSha256: j.options.SHA256,
	}.Build()
	if j.options.Size > 0 {
		h.SetSizeBytes(uint64(j.options.Size))
	}
	return quartetv1.UploadObjectRequest_builder{Header: h}.Build()
}

func finish(c *content) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{Finish: quartetv1.UploadFinish_builder{
		SizeBytes: new(uint64(len(c.data))), Crc32C: new(c.crc32c),
	}.Build()}.Build()
}
