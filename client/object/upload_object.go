package object

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// UploadOptions say more about an upload.
type UploadOptions struct {
	// ID names the upload, so that a later call, in another process even, can continue it. Random
	// if empty.
	ID string
	// Continue says that an earlier call may have begun the upload: the server is asked how far it
	// is.
	Continue bool
	// ContentType is the media type of the content.
	ContentType string
	// Size is the size of the content in bytes where it is known, or 0: then the server learns it
	// at the end.
	Size int64
	// SHA256 has the server verify the SHA-256 of the whole object too. It costs both sides a pass
	// over all bytes.
	SHA256 bool
	// Progress, if not nil, is called after every chunk, and when the server has said where to
	// continue.
	Progress func(Progress)
}

// maxReplaced bounds how often an upload is taken back from another writer. A writer that is left
// over from a broken connection is replaced once and ends. One that comes back is another client
// that uses the same id, and was started later.
const maxReplaced = 3

// Upload sends all of r as an object, and returns it as the server has it once it is durable and
// visible. Breaks are resumed at the last byte that the server committed: r is read again from
// there if it can seek, and otherwise Options.WindowBytes of it are kept. Without an error the
// server has verified that it holds the very bytes that were read.
func (c *Client) Upload(
	ctx context.Context, name string, r io.Reader, options UploadOptions,
) (object *quartetv1.Object, err error) {
	ctx, o := c.beginTransfer(ctx, c.metrics.uploads, name)
	u := newUpload(c, o, r, options)
	defer func() { o.end(ctx, u.committed-u.before, object.GetCrc32C(), err) }()
	for object == nil {
		if err := c.resumption(o).Resume(ctx, "upload", u.attempt); err != nil {
			return nil, fmt.Errorf("upload %q: %w", name, err)
		}
		object = u.object // Still nil if the server only took in a window.
	}
	return object, nil
}

// upload is one upload over all its attempts. It belongs to the goroutine that called Upload.
type upload struct {
	*observer
	client  *Client
	source  source
	options UploadOptions
	// fresh says that the server cannot know of this upload yet, so that it need not be asked.
	fresh bool
	// replaced counts how often in a row another writer has taken the upload over.
	replaced int
	// buffers are those of the present attempt.
	buffers *bulk.Buffers

	// committed is what the server is known to have; offset is the next byte to send.
	committed, offset int64
	// before is what the server had before this call, and reached the most that it has had.
	before, reached int64
	// crc and sha are over the first hashed bytes of the source. Bytes that are sent again are not
	// hashed again.
	hashed int64
	crc    uint32
	sha    hash.Hash

	// finished says that finish was sent last, so that the answer has to be the object.
	finished bool
	object   *quartetv1.Object
}

// newUpload prepares an upload, and sends nothing.
func newUpload(c *Client, o *observer, r io.Reader, options UploadOptions) *upload {
	u := &upload{observer: o, client: c, source: newSource(r, c.options.WindowBytes), options: options}
	u.fresh = !options.Continue
	if options.ID == "" {
		u.options.ID = uuid.NewString()
	}
	if options.SHA256 {
		u.sha = sha256.New()
	}
	return u
}

// attempt sends the rest of the source over one stream, or as much as its window has room for. More
// that is committed afterwards than ever before is progress.
func (u *upload) attempt(ctx context.Context, a *rpc.Attempt) error {
	reached := u.reached
	defer func() {
		if u.reached = max(reached, u.committed); u.reached > reached {
			a.Progress()
			u.damaged, u.replaced = 0, 0
		}
	}()
	a.Ready() // The look-up has a deadline of its own.
	if err := u.locate(ctx); err != nil || u.object != nil {
		return err
	}
	a.Wait()
	stream, err := u.client.objects.UploadObject(ctx, grpc.ForceCodecV2(bulk.Codec{}))
	if err != nil {
		return err
	}
	// Every attempt has buffers of its own: those that a broken stream has may never come back.
	u.buffers = u.client.chunks.Buffers(u.total())
	// The answer is waited for from the start, because it may come before all is sent, and because
	// nothing else tells a sender that waits for a buffer that the connection is gone.
	response := new(quartetv1.UploadObjectResponse)
	answered, answer := context.WithCancelCause(ctx)
	go func() { answer(cmp.Or(stream.RecvMsg(response), errAnswered)) }()
	defer u.buffers.Drain(answered)
	err = u.send(answered, stream, a)
	switch {
	case errors.Is(err, errSource), errors.Is(err, ErrSourceChanged):
		// What was sent is kept for a later call, if the server says so or not.
		_ = u.answer(ctx, answered, stream, response, a)
	case err == nil, errors.Is(err, io.EOF), answered.Err() != nil:
		// The server's answer counts, also where Send says no more than that the stream is over.
		err = u.answer(ctx, answered, stream, response, a)
	}
	return u.failure(err)
}

// locate asks the server where to continue and goes there in the source. If the upload is an object
// already, locate compares that with the source.
func (u *upload) locate(ctx context.Context) error {
	if u.fresh {
		u.fresh = false
		return nil
	}
	state, err := u.client.GetUpload(ctx, u.options.ID)
	if err != nil {
		return err
	}
	u.object, u.committed = state.GetObject(), int64(state.GetCommittedSizeBytes())
	u.before += max(0, u.committed-u.hashed) // Of what this call sent, every byte was hashed.
	if u.object != nil {
		// Its bytes are kept: it may be deleted before it is compared, and is then sent again.
		return u.compare(ctx)
	}
	if err := u.seek(u.committed); err != nil {
		return err
	}
	u.source.release(u.committed)
	u.progress()
	return nil
}

// compare finds out whether the object that the upload has become is what this call was to send.
// The id may be that of another upload, which a caller with a fixed id would take for its own.
func (u *upload) compare(ctx context.Context) error {
	found := u.object
	u.object = nil
	mismatch := func(format string, args ...any) error {
		return rpc.Final(fmt.Errorf("%w: upload %s is finished, and %s", ErrUploadMismatch, u.options.ID,
			fmt.Sprintf(format, args...)))
	}
	size := int64(found.GetSizeBytes())
	if found.GetName() != u.name {
		return mismatch("its object is %q", found.GetName())
	}
	// A caller that named no type takes any.
	if u.options.ContentType != "" && found.GetContentType() != u.options.ContentType {
		return mismatch("its object is of type %q, not %q", found.GetContentType(), u.options.ContentType)
	}
	if u.options.Size > 0 && size != u.options.Size {
		return mismatch("its object has %d bytes, not %d", size, u.options.Size)
	}
	// The source is read as far as the object goes, for its checksum.
	if err := u.seek(size); errors.Is(err, io.EOF) {
		return mismatch("its object has %d bytes, not %d", size, u.hashed)
	} else if err != nil {
		return err
	}
	if !u.finished { // Otherwise this call has seen the end, and the upload was its own.
		// The object may be only the beginning of the source.
		if n, err := io.ReadFull(u.source, make([]byte, 1)); n > 0 {
			return mismatch("its object has %d bytes, fewer than the source", size)
		} else if !errors.Is(err, io.EOF) {
			return rpc.Final(fmt.Errorf("%w: %w", errSource, err))
		}
	}
	if u.crc != found.GetCrc32C() || u.sha != nil && len(found.GetSha256()) > 0 &&
		!bytes.Equal(u.sha.Sum(nil), found.GetSha256()) {
		return mismatch("its object has other content: its crc32c is %s, the source's %s",
			checksum(found.GetCrc32C()), checksum(u.crc))
	}
	if !u.finished {
		now, err := u.client.Get(ctx, u.name)
		if err != nil && status.Code(err) != codes.NotFound {
			return err
		}
		if now.GetGeneration() != found.GetGeneration() {
			return mismatch("its object was replaced or deleted since")
		}
	}
	u.object = found
	return nil
}

// seek goes to an offset in the source. Bytes that were sent before this call began, by another
// process, are read once for the checksum of the whole, and kept as far as there is room.
func (u *upload) seek(offset int64) error {
	if err := u.source.seek(min(offset, u.hashed)); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for u.hashed < offset {
		// The window is full of bytes that the server has: they need not be kept.
		if u.source.room() == 0 {
			u.source.release(u.hashed)
		}
		n, err := u.source.Read(buffer[:min(int64(len(buffer)), offset-u.hashed, u.source.room())])
		u.hash(u.hashed, buffer[:n], crc32c.Checksum(buffer[:n]))
		if err != nil {
			return rpc.Final(fmt.Errorf("read up to %d, which the server has already: %w", offset, err))
		}
	}
	u.offset = offset
	return nil
}

// hash takes the bytes at offset into the checksums, as far as they are new.
func (u *upload) hash(offset int64, data []byte, sum uint32) {
	seen := u.hashed - offset
	if seen >= int64(len(data)) {
		return
	}
	// The buffer begins with bytes that were sent before: only the rest is new.
	if seen > 0 {
		data = data[seen:]
		sum = crc32c.Checksum(data)
	}
	u.crc = crc32c.Combine(u.crc, sum, int64(len(data)))
	if u.sha != nil {
		u.sha.Write(data)
	}
	u.hashed += int64(len(data))
}

// uploadStream is the client's side of the RPC.
type uploadStream = grpc.ClientStreamingClient[
	quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]

// send sends the header, chunks to the end of the source, and finish; or no finish when the window
// is full, so that the server commits what it has and the window can move on.
func (u *upload) send(answered context.Context, stream uploadStream, a *rpc.Attempt) error {
	u.finished = false
	a.Wait()
	if err := stream.Send(u.header()); err != nil {
		return err
	}
	// A file always has room, so that the loop ends at its end. A window has none when it is full.
	for u.source.room() > 0 {
		buffer, err := u.buffers.Take(answered)
		if err != nil {
			return err
		}
		a.Ready()
		// While the source is read, which may take long, the server owes nothing.
		n, err := fill(u.source, (*buffer)[:min(int64(len(*buffer)), u.source.room())])
		a.Wait()
		// The file has grown. The server would refuse the chunk with a less clear reason.
		if u.options.Size > 0 && u.offset+int64(n) > u.options.Size {
			return rpc.Final(fmt.Errorf("%w: it is longer than %d bytes", ErrSourceChanged, u.options.Size))
		}
		if n > 0 {
			*buffer = (*buffer)[:n]
			if err := u.sendChunk(stream, buffer); err != nil {
				return err
			}
		}
		if err == io.EOF { //nolint:errorlint // io.Reader says the end so; wrapped it is a failure.
			if err := u.whole(); err != nil {
				return rpc.Final(err)
			}
			u.finished = true
			return stream.Send(u.finish())
		}
		if err != nil {
			return rpc.Final(fmt.Errorf("%w: %w", errSource, err))
		}
	}
	return nil
}

// fill reads until the buffer is full or r has ended or failed. In contrast to that of io.ReadFull,
// its error is r's own: io.ErrUnexpectedEOF says that r was cut, as the body of a request may be,
// and what was read of it is not the whole.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// whole returns an error unless what was sent, up to the end of the source, is one state of it: as
// long as was said, and not changed since the beginning. Only then finish is sent.
func (u *upload) whole() error {
	if u.options.Size > 0 && u.offset != u.options.Size {
		return fmt.Errorf("%w: it ends after %d of %d bytes", ErrSourceChanged, u.offset, u.options.Size)
	}
	return u.source.unchanged()
}

// sendChunk sends the bytes in a buffer, which goes back to the attempt's buffers when the
// transport has written it.
func (u *upload) sendChunk(stream uploadStream, buffer *[]byte) error {
	data := *buffer
	sum := crc32c.Checksum(data)
	u.hash(u.offset, data, sum)
	chunk := quartetv1.UploadChunk_builder{Offset: uint64(u.offset), Data: data, Crc32C: sum}.Build()
	message := quartetv1.UploadObjectRequest_builder{Chunk: chunk}.Build()
	sent := bulk.Message{Message: message, Bulk: u.buffers.Bulk(buffer)}
	defer sent.Free()
	if err := stream.SendMsg(&sent); err != nil {
		return err
	}
	u.offset += int64(len(data))
	u.progress()
	return nil
}

// progress tells the caller how far the upload is.
func (u *upload) progress() {
	if u.options.Progress != nil {
		u.options.Progress(Progress{
			Done: u.offset, Safe: u.committed, Total: u.total(), Resumes: u.resumes,
		})
	}
}

// total is the size of the whole, -1 if it is not known.
func (u *upload) total() int64 {
	if u.options.Size > 0 {
		return u.options.Size
	}
	return -1
}

// header is the first message. It is the same on each stream of the upload, as the contract wants
// it.
func (u *upload) header() *quartetv1.UploadObjectRequest {
	header := quartetv1.UploadHeader_builder{
		UploadId:    u.options.ID,
		Name:        u.name,
		ContentType: u.options.ContentType,
		HashSha256:  u.sha != nil,
	}.Build()
	if u.options.Size > 0 {
		header.SetSizeBytes(uint64(u.options.Size))
	}
	return quartetv1.UploadObjectRequest_builder{Header: header}.Build()
}

// finish is the last message. It always states size and CRC-32C, so that the server verifies the
// whole.
func (u *upload) finish() *quartetv1.UploadObjectRequest {
	finish := quartetv1.UploadFinish_builder{
		SizeBytes: new(uint64(u.offset)), Crc32C: new(u.crc),
	}.Build()
	if u.sha != nil {
		finish.SetSha256(u.sha.Sum(nil))
	}
	return quartetv1.UploadObjectRequest_builder{Finish: finish}.Build()
}

// answer half-closes and waits for the server's answer, which says how much is committed, and has
// the object after finish. The server has to write what is under way and, for a SHA-256, to read
// the object once more, for which it gets a second for each 64 MiB.
func (u *upload) answer(
	ctx, answered context.Context, stream uploadStream, response *quartetv1.UploadObjectResponse,
	a *rpc.Attempt,
) error {
	a.WaitLonger(time.Duration(u.offset/(64<<20)) * time.Second)
	if err := stream.CloseSend(); err != nil {
		return err
	}
	<-answered.Done()
	err := context.Cause(answered)
	if errors.Is(err, io.EOF) {
		// grpc-go says so when its own, transparent retry of a stream that never reached the server
		// fails too.
		return rpc.ErrEnded
	}
	if !errors.Is(err, errAnswered) {
		return err
	}
	u.committed, u.object = int64(response.GetCommittedSizeBytes()), response.GetObject()
	if u.object != nil && !u.finished {
		a.Ready()
		return u.compare(ctx) // It was finished before, by this call or another.
	}
	if u.finished && u.object == nil {
		return fmt.Errorf("%w: the upload is finished and there is no object", rpc.ErrProtocol)
	}
	u.source.release(u.committed)
	// All that is kept was sent, and nothing of it is committed: the next attempt would be the same.
	if !u.finished && u.source.room() == 0 && u.committed <= u.reached {
		return rpc.Final(ErrWindow)
	}
	return nil
}

// failure makes the error final if other writers have taken the upload over too often: without its
// status it is not tried again.
func (u *upload) failure(err error) error {
	if err == nil {
		return nil
	}
	if rpc.Reason(err) == "WRITER_REPLACED" {
		if u.replaced++; u.replaced >= maxReplaced {
			return fmt.Errorf("another writer has taken over upload %s: %w", u.options.ID,
				errors.New(err.Error()))
		}
	}
	return err
}
