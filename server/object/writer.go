package object

import (
	"context"
	"errors"
	"fmt"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// defaultContentType is that of the contract, for senders that name none.
const defaultContentType = "application/octet-stream"

// writer is what one stream does to an upload. It asks the engine for the upload when the first
// message after the header is there, so that a stream that sends nothing more costs the store
// nothing. It belongs to the handler's goroutine.
type writer struct {
	*service
	ctx    context.Context
	header engine.Header
	lease  *lease
	// upload is nil until the engine was asked.
	upload engine.Upload
	// began is what was committed when it was asked, in bytes like the next two.
	began int64
	// counted is how much of what is committed is in the metrics.
	counted int64
	// received is where the next chunk has to begin: all before it has been given to the engine, and
	// need not be committed yet.
	received int64
}

// begin asks the engine for the upload, once. fresh says that the sender begins at the first byte,
// for which an engine may have nothing to look up.
func (w *writer) begin(fresh bool) (err error) {
	if w.upload != nil {
		return nil
	}
	// Counted before it begins, so that streams that come at once cannot pass the limit together.
	if err := w.limits.begun(w.ctx, w.header.UploadID, w.engine); err != nil {
		return err
	}
	if w.upload, err = w.engine.Begin(w.ctx, w.header, fresh); err != nil {
		if !w.known() {
			w.limits.ended(w.header.UploadID)
		}
		return w.metrics.saw(err)
	}
	w.lease.began(w.header.Name)
	state := w.upload.State()
	w.began, w.counted, w.received = state.Committed, state.Committed, state.Committed
	if state.Committed > 0 && state.Object == nil {
		w.metrics.resumedUploads.Inc()
	}
	return nil
}

// known tells whether the engine has something of the upload that is not finished. The stream may
// have ended, but the answer decides whether the upload still counts, so it is asked without its
// end.
func (w *writer) known() bool {
	state, err := w.engine.Upload(context.WithoutCancel(w.ctx), w.header.UploadID)
	return err == nil && state.Object == nil
}

// chunk takes the next bytes. A chunk that begins anywhere else than at the end of what arrived is
// refused with an OffsetError; what arrived is committed first, so that the sender can go on at the
// offset in the error.
func (w *writer) chunk(r *uploadRequest) error {
	defer r.bulk.Free()
	if !r.HasChunk() {
		return fmt.Errorf("%w: after the header of an upload come chunks and finish", rpc.ErrMessageOrder)
	}
	chunk := r.GetChunk()
	offset, pieces := clamp(chunk.GetOffset()), r.bulk.Pieces(chunk.GetData())
	if len(pieces[0]) == 0 {
		return errEmptyChunk
	}
	if err := w.begin(offset == 0); err != nil {
		return err
	}
	if offset != w.received || w.upload.State().Object != nil {
		committed, err := w.pause()
		if err != nil {
			return err
		}
		return &engine.OffsetError{Committed: committed}
	}
	// The limits hold for what would have arrived with this chunk, and are checked before it is
	// written.
	size := int64(0)
	for _, piece := range pieces {
		size += int64(len(piece))
	}
	if expected := w.header.Expect.Size; expected != nil && offset+size > *expected {
		return fmt.Errorf("%w: at least %d bytes, want %d", engine.ErrSizeMismatch, offset+size,
			*expected)
	}
	if offset+size > int64(w.config.MaxBytes) {
		return w.tooLarge()
	}
	err := w.upload.Append(pieces, chunk.GetCrc32C())
	if errors.Is(err, engine.ErrChecksumMismatch) {
		w.metrics.badChunks.Inc()
		return fmt.Errorf("%w: CRC-32C of the chunk at %d is not %08x", err, offset, chunk.GetCrc32C())
	}
	w.received += size
	w.count()
	return err
}

// pause commits what can be committed, and returns how much that is altogether.
func (w *writer) pause() (committed int64, err error) {
	if err := w.begin(false); err != nil {
		return 0, err
	}
	defer w.count()
	committed, err = w.upload.Pause()
	return committed, w.metrics.saw(err)
}

// keep is pause for a stream that the server ends. One that has sent no more than its header has
// nothing to keep, and need not begin for that: it could be refused for another reason than the one
// for which it ends.
func (w *writer) keep() error {
	if w.upload == nil {
		return nil
	}
	_, err := w.pause()
	return err
}

// finish makes the object visible if it is the one that header and finish state. Finishing an
// upload again, because the answer was lost, returns the same object, and is not counted again.
func (w *writer) finish(e engine.Expect) (engine.Object, error) {
	if err := e.Check(); err != nil {
		return engine.Object{}, err
	}
	if err := w.begin(false); err != nil {
		return engine.Object{}, err
	}
	again := w.upload.State().Object != nil
	defer w.count()
	o, err := w.upload.Finish(e)
	if err == nil && !again {
		w.metrics.finished.Inc()
	}
	return o, w.metrics.saw(err)
}

// count adds to the metrics what was committed since the last time.
func (w *writer) count() {
	if committed := w.upload.State().Committed; committed > w.counted {
		w.metrics.committedBytes.Add(float64(committed - w.counted))
		w.counted = committed
	}
}

// close ends the stream's work, whatever it ended with; the engine keeps what it can. An upload
// that is finished, or of which nothing is kept, no longer counts as unfinished.
func (w *writer) close() {
	if w.upload == nil {
		return
	}
	if err := w.upload.Close(); err != nil {
		w.host.Telemetry.Log.Debug("closing an upload failed",
			"upload_id", w.header.UploadID, "error", err)
	}
	w.count()
	if state := w.upload.State(); state.Object != nil || state.Committed == 0 && !w.known() {
		w.limits.ended(w.header.UploadID)
	}
}
