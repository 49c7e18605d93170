package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/transfer"
	"example.com/quartet/server/object"
)

// uploadRetryDelay is how long a sender should wait before it continues elsewhere: long enough for its connection to
// have been moved.
const uploadRetryDelay = 500 * time.Millisecond

// UploadObject receives an object, or the next piece of one. However the stream ends, what arrived whole is kept.
func (s *objectService) UploadObject(stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	release, err := s.memory.forUpload(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	requests := receive(stream.Context(), func() (*uploadRequest, error) { return recvUpload(stream) })
	header, err := s.awaitHeader(stream.Context(), requests)
	if err != nil {
		return err
	}
	writer, err := s.store.OpenWriter(stream.Context(), uploadHeader(header))
	if err != nil {
		return err
	}
	defer writer.Close()
	return s.receiveUpload(writer, requests, stream)
}

// awaitHeader takes the first message, and does not wait for it longer than for any other: memory is reserved already.
func (s *objectService) awaitHeader(ctx context.Context, requests <-chan received[uploadRequest]) (*quartetv1.UploadHeader, error) {
	idle := time.NewTimer(s.idleTimeout)
	defer idle.Stop()
	select {
	case r := <-requests:
		if r.err != nil {
			return nil, firstMessageError(r.err)
		}
		defer r.message.Free()
		if !r.message.HasHeader() {
			return nil, fmt.Errorf("%w: the first message of an upload is its header", errMessageOrder)
		}
		return r.message.GetHeader(), nil
	case <-idle.C:
		return nil, fmt.Errorf("before the header: %w", errIdle)
	case <-s.draining:
		return nil, errUploadStopped()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errUploadStopped sends a sender to another server.
func errUploadStopped() error {
	return rpc.RetryAfter(codes.Unavailable, "the server is stopping; the upload is kept and continues elsewhere", "STOPPING", uploadRetryDelay)
}

// receiveUpload takes chunks until the sender finishes or pauses, a newer sender takes the upload over, or the server
// drains.
func (s *objectService) receiveUpload(writer *object.Writer, requests <-chan received[uploadRequest], stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	idle := time.NewTimer(s.idleTimeout)
	defer idle.Stop()
	for {
		select {
		case r := <-requests:
			idle.Reset(s.idleTimeout)
			switch {
			case errors.Is(r.err, io.EOF):
				return pauseUpload(writer, stream)
			case r.err != nil:
				return r.err
			case r.message.HasFinish():
				return finishUpload(writer, r.message.GetFinish(), stream)
			}
			if err := writeChunk(writer, r.message); err != nil {
				return err
			}
		case <-writer.Replaced():
			return object.ErrWriterReplaced
		case <-idle.C:
			return fmt.Errorf("upload paused at %d bytes: %w", writer.Committed(), errIdle)
		case <-s.draining:
			if _, err := writer.Pause(); err != nil {
				return err
			}
			return errUploadStopped()
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// uploadRequest is a message of an upload, with its bulk in the buffers that it came in.
type uploadRequest struct {
	*quartetv1.UploadObjectRequest
	transfer.Frame
}

func recvUpload(stream grpc.ServerStream) (*uploadRequest, error) {
	r := &uploadRequest{UploadObjectRequest: new(quartetv1.UploadObjectRequest)}
	r.Message = r.UploadObjectRequest
	return r, stream.RecvMsg(&r.Frame)
}

func writeChunk(writer *object.Writer, r *uploadRequest) error {
	defer r.Free()
	if !r.HasChunk() {
		return fmt.Errorf("%w: after the header of an upload come chunks and finish", errMessageOrder)
	}
	chunk := r.GetChunk()
	pieces := r.Pieces(chunk.GetData())
	if len(pieces[0]) == 0 {
		return errEmptyChunk
	}
	return writer.WriteChunk(clamp(chunk.GetOffset()), chunk.GetCrc32C(), pieces...)
}

// pauseUpload answers a sender that stopped without finishing.
func pauseUpload(writer *object.Writer, stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	committed, err := writer.Pause()
	if err != nil {
		return err
	}
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{CommittedSizeBytes: uint64(committed)}.Build())
}

func finishUpload(writer *object.Writer, finish *quartetv1.UploadFinish, stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	finished, err := writer.Finish(uploadExpect(finish))
	if err != nil {
		return err
	}
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
		CommittedSizeBytes: uint64(finished.Size),
		Object:             protoObject(finished),
	}.Build())
}

// stated is what a header and a finish have in common: what the sender says of the whole object.
type stated interface {
	HasSizeBytes() bool
	GetSizeBytes() uint64
	HasCrc32C() bool
	GetCrc32C() uint32
	GetSha256() []byte
}

func uploadExpect(s stated) object.Expect {
	expect := object.Expect{SHA256: s.GetSha256()}
	if s.HasSizeBytes() {
		expect.Size = new(clamp(s.GetSizeBytes()))
	}
	if s.HasCrc32C() {
		expect.CRC32C = new(s.GetCrc32C())
	}
	return expect
}

func uploadHeader(h *quartetv1.UploadHeader) object.Header {
	return object.Header{
		UploadID:    h.GetUploadId(),
		Name:        h.GetName(),
		ContentType: h.GetContentType(),
		Expect:      uploadExpect(h),
	}
}

// firstMessageError names the mistake of a peer that closes a stream without a word.
func firstMessageError(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the stream ended before its first message", errMessageOrder)
	}
	return err
}
