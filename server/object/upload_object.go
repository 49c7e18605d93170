package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/store"
)

// UploadObject (client streaming) receives an object, or the next piece of one. However the stream ends, what arrived whole is kept.
func (s *service) UploadObject(stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	release, err := s.memory.forUpload(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	requests := rpc.Receive(stream.Context(), func() (*uploadRequest, error) { return recvUpload(stream) })
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
func (s *service) awaitHeader(ctx context.Context, requests <-chan rpc.Received[uploadRequest]) (*quartetv1.UploadHeader, error) {
	idle := time.NewTimer(s.config.IdleTimeout)
	defer idle.Stop()
	select {
	case r := <-requests:
		if r.Err != nil {
			return nil, rpc.FirstMessage(r.Err)
		}
		defer r.Message.bulk.Free()
		if !r.Message.HasHeader() {
			return nil, fmt.Errorf("%w: the first message of an upload is its header", rpc.ErrMessageOrder)
		}
		return r.Message.GetHeader(), nil
	case <-idle.C:
		return nil, fmt.Errorf("before the header: %w", rpc.ErrIdle)
	case <-s.host.Draining:
		return nil, errUploadStopped()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errUploadStopped sends a sender to another server.
func errUploadStopped() error {
	return rpc.Stopping("the server is stopping; the upload is kept and continues elsewhere")
}

// receiveUpload takes chunks until the sender finishes or pauses, a newer sender takes the upload over, or the server
// drains.
func (s *service) receiveUpload(writer *store.Writer, requests <-chan rpc.Received[uploadRequest], stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	idle := time.NewTimer(s.config.IdleTimeout)
	defer idle.Stop()
	for {
		select {
		case r := <-requests:
			idle.Reset(s.config.IdleTimeout)
			switch {
			case errors.Is(r.Err, io.EOF):
				return pauseUpload(writer, stream)
			case r.Err != nil:
				return r.Err
			case r.Message.HasFinish():
				return finishUpload(writer, r.Message.GetFinish(), stream)
			}
			if err := writeChunk(writer, r.Message); err != nil {
				return err
			}
		case <-writer.Replaced():
			return store.ErrWriterReplaced
		case <-idle.C:
			return fmt.Errorf("upload paused at %d bytes: %w", writer.Committed(), rpc.ErrIdle)
		case <-s.host.Draining:
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
	bulk bulk.Message
}

func recvUpload(stream grpc.ServerStream) (*uploadRequest, error) {
	r := &uploadRequest{UploadObjectRequest: new(quartetv1.UploadObjectRequest)}
	r.bulk.Message = r.UploadObjectRequest
	return r, stream.RecvMsg(&r.bulk)
}

func writeChunk(writer *store.Writer, r *uploadRequest) error {
	defer r.bulk.Free()
	if !r.HasChunk() {
		return fmt.Errorf("%w: after the header of an upload come chunks and finish", rpc.ErrMessageOrder)
	}
	chunk := r.GetChunk()
	pieces := r.bulk.Pieces(chunk.GetData())
	if len(pieces[0]) == 0 {
		return errEmptyChunk
	}
	return writer.WriteChunk(clamp(chunk.GetOffset()), chunk.GetCrc32C(), pieces...)
}

// pauseUpload answers a sender that stopped without finishing.
func pauseUpload(writer *store.Writer, stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	committed, err := writer.Pause()
	if err != nil {
		return err
	}
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{CommittedSizeBytes: uint64(committed)}.Build())
}

func finishUpload(writer *store.Writer, finish *quartetv1.UploadFinish, stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	finished, err := writer.Finish(uploadExpect(finish))
	if err != nil {
		return err
	}
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
		CommittedSizeBytes: uint64(finished.Size),
		Object:             protoObject(finished),
	}.Build())
}

// stated is what a header and a finish have in common: what the sender says of the whole store.
type stated interface {
	HasSizeBytes() bool
	GetSizeBytes() uint64
	HasCrc32C() bool
	GetCrc32C() uint32
	GetSha256() []byte
}

func uploadExpect(s stated) store.Expect {
	expect := store.Expect{SHA256: s.GetSha256()}
	if s.HasSizeBytes() {
		expect.Size = new(clamp(s.GetSizeBytes()))
	}
	if s.HasCrc32C() {
		expect.CRC32C = new(s.GetCrc32C())
	}
	return expect
}

func uploadHeader(h *quartetv1.UploadHeader) store.Header {
	return store.Header{
		UploadID:    h.GetUploadId(),
		Name:        h.GetName(),
		ContentType: h.GetContentType(),
		Expect:      uploadExpect(h),
	}
}
