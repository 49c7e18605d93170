package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// sendRaw sends messages as they are, whatever the server thinks of them, and returns what it says
// in the end.
func (w *worker) sendRaw(
	ctx context.Context, messages ...*quartetv1.UploadObjectRequest,
) (*quartetv1.UploadObjectResponse, error) {
	stream, err := w.stub.UploadObject(ctx)
	if err != nil {
		return nil, err
	}
	var cut error
	for _, m := range messages {
		if cut = stream.Send(m); cut != nil {
			break // The server's word follows.
		}
	}
	response, err := stream.CloseAndRecv()
	if errors.Is(err, io.EOF) || (err == nil && cut != nil) {
		// The stream never reached the server, and what grpc-go sent again by itself was cut as
		// well, or was only as much as had been sent until then.
		return nil, context.Canceled
	}
	return response, err
}

// chunk is the one at an offset of a content, as long as the content goes.
func chunk(c *content, offset int) *quartetv1.UploadChunk {
	data := c.data[offset:min(offset+chunkBytes, len(c.data))]
	return quartetv1.UploadChunk_builder{Offset: uint64(offset), Data: data, Crc32C: crc32c.Checksum(data)}.Build()
}

func request(c *quartetv1.UploadChunk) *quartetv1.UploadObjectRequest {
	return quartetv1.UploadObjectRequest_builder{Chunk: c}.Build()
}

// attack does what no sender should, to an upload that others may continue. The answer has to be
// right, and the upload must not suffer.
func (w *worker) attack() {
	j := w.take()
	if j == nil {
		j = w.newJob()
	}
	defer w.leave(j)
	if len(j.content.data) == 0 {
		return
	}
	ctx, cancel := bounded()
	defer cancel()
	w.counts.invalid.Add(1)
	pick(w.random, []choice[func(context.Context, *job)]{
		{2, w.sendElsewhere}, {2, w.sendTwice}, {2, w.sendDamaged},
		{1, w.sendOtherHeader}, {1, w.sendWrongWhole}, {1, w.sendPiece},
	})(ctx, j)
}

// expect checks the answer to an attack.
func (w *worker) expect(what string, err error, reasons ...string) {
	switch {
	case err == nil:
		w.broken(what + " was accepted")
	case is(err, reasons...):
		w.tell("%s: %s", what, rpc.Reason(err))
	default:
		w.tolerate(what, err)
	}
}

// sendElsewhere sends a chunk that begins where the upload does not continue.
func (w *worker) sendElsewhere(ctx context.Context, j *job) {
	at := w.random.IntN(len(j.content.data))
	before := w.model.ask(j.upload)
	response, err := w.sendRaw(ctx, j.header(), request(chunk(j.content, at)))
	if err == nil { // It was the right place by chance.
		w.model.stands(j.upload, before, int64(response.GetCommittedSizeBytes()), response.GetObject())
		return
	}
	w.expect(fmt.Sprintf("send %s at %d", j.id, at), err, "OFFSET_MISMATCH")
	w.offset(j.upload, before, err)
}

// offset checks the offset that an error tells a sender to continue at.
func (w *worker) offset(u *upload, before standing, err error) {
	for _, detail := range status.Convert(err).Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetReason() != "OFFSET_MISMATCH" {
			continue
		}
		committed, err := strconv.ParseInt(info.GetMetadata()["committed_size_bytes"], 10, 64)
		if err != nil {
			w.broken(fmt.Sprintf("an offset was refused without the right one: %v", info))
		}
		before.acknowledged = false // This error has no object.
		w.model.stands(u, before, committed, nil)
	}
}

// sendTwice sends a chunk again.
func (w *worker) sendTwice(ctx context.Context, j *job) {
	before := w.model.ask(j.upload)
	c := chunk(j.content, int(before.committed)%len(j.content.data))
	_, err := w.sendRaw(ctx, j.header(), request(c), request(c))
	w.expect("send a chunk of "+j.id+" twice", err, "OFFSET_MISMATCH")
	w.offset(j.upload, before, err)
}

// sendDamaged sends a chunk whose bytes are not those of its checksum.
func (w *worker) sendDamaged(ctx context.Context, j *job) {
	c := chunk(j.content, int(w.model.ask(j.upload).committed)%len(j.content.data))
	c.SetCrc32C(c.GetCrc32C() + 1)
	_, err := w.sendRaw(ctx, j.header(), request(c))
	w.expect("send a damaged chunk of "+j.id, err, "CHECKSUM_MISMATCH", "OFFSET_MISMATCH")
}

// sendOtherHeader claims that an upload which has begun is another one.
func (w *worker) sendOtherHeader(ctx context.Context, j *job) {
	if w.model.ask(j.upload).committed == 0 {
		return
	}
	other := j.header()
	other.GetHeader().SetName(w.name() + " stolen")
	c := chunk(j.content, 0)
	_, err := w.sendRaw(
		ctx, other, request(c), finish(&content{data: c.GetData(), crc32c: c.GetCrc32C()}),
	)
	w.expect("send another header for "+j.id, err, "UPLOAD_MISMATCH")
}

// sendWrongWhole finishes an upload of its own with the checksum of another one. Its object must
// never be visible.
func (w *worker) sendWrongWhole(ctx context.Context, j *job) {
	w.begun++
	wrong := j.header()
	wrong.GetHeader().SetUploadId(fmt.Sprintf("wrong-%04d-%08d", w.number, w.begun))
	wrong.GetHeader().ClearSizeBytes()
	wrong.GetHeader().SetContentType("application/x-wrong")
	c := chunk(j.content, 0)
	_, err := w.sendRaw(
		ctx, wrong, request(c), finish(&content{data: c.GetData(), crc32c: c.GetCrc32C() + 1}),
	)
	w.expect("finish with a wrong checksum", err, "CHECKSUM_MISMATCH")
}

// sendPiece sends the right chunk and pauses.
func (w *worker) sendPiece(ctx context.Context, j *job) {
	before := w.model.ask(j.upload)
	response, err := w.sendRaw(
		ctx, j.header(), request(chunk(j.content, int(before.committed)%len(j.content.data))),
	)
	if err != nil {
		if !is(err, "OFFSET_MISMATCH") {
			w.tolerate("send a piece of "+j.id, err)
		}
		return
	}
	before.acknowledged = false // A piece is answered without the object.
	w.model.stands(j.upload, before, int64(response.GetCommittedSizeBytes()), response.GetObject())
}
