package object

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// DownloadObject (server streaming) sends an object, or a range of it. A reader that is slow holds
// the loop back, so that a download needs the same memory whatever its size: there are two buffers,
// and Take waits until the transport has written one of them.
func (s *service) DownloadObject(
	r *quartetv1.DownloadObjectRequest,
	stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse],
) error {
	ctx := stream.Context()
	if err := engine.CheckName(r.GetName()); err != nil {
		return err
	}
	if err := permit(ctx, r.GetName()); err != nil {
		return err
	}
	// Before the engine is asked: a caller with too many transfers costs the store nothing.
	leave, err := s.limits.transfer(ctx)
	if err != nil {
		return err
	}
	defer rpc.WhenSent(ctx, leave)
	// A generation that is gone, or an offset beyond the end, ends the call before its first reply.
	reader, err := s.engine.Open(ctx, r.GetName(), r.GetGeneration(), clamp(r.GetReadOffset()),
		clamp(r.GetReadLimit()))
	if err != nil {
		return s.metrics.saw(err)
	}
	defer reader.Close()
	// A range counts as well, since the request cannot tell it from a resume.
	if r.GetReadOffset() > 0 {
		s.metrics.resumedDownloads.Inc()
	}
	// All memory that the download can take is reserved now, so that it never waits for more in the
	// middle.
	buffers, fast, release, err := s.memory.forDownload(ctx, reader)
	if err != nil {
		return err
	}
	// What gRPC has not written yet still takes the reserved memory.
	defer rpc.WhenSent(ctx, release)
	defer buffers.Close()
	// The first reply says which generation it is, so that the reader can go on with the same one.
	head := quartetv1.DownloadObjectResponse_builder{Object: protoObject(reader.Object())}.Build()
	if err := stream.Send(head); err != nil {
		return err
	}
	offset := r.GetReadOffset()
	for left := reader.Remaining(); left > 0; {
		buffer, err := buffers.Take(ctx)
		if err != nil {
			return err
		}
		// What Next returns has been verified. Bytes that are not what was written end the stream with
		// DATA_LOSS before any of them is sent.
		n, crc32c, err := reader.Next(*buffer, fast)
		if err != nil {
			buffers.Put(buffer) // Bulk did not take it.
			// The end of the stream says that all was sent, so that no engine's mistake may look like it.
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %q ends %d bytes early", engine.ErrCorrupt, r.GetName(), left)
			}
			return s.metrics.saw(err)
		}
		*buffer = (*buffer)[:n]
		if err := sendChunk(stream, offset, buffers.Bulk(buffer), *buffer, crc32c); err != nil {
			return err
		}
		offset, left = offset+uint64(n), left-int64(n)
	}
	return nil
}

// sendChunk sends one chunk. The buffer that data is in goes back to its transfer when the
// transport has written it, which may be after sendChunk has returned.
func sendChunk(
	stream grpc.ServerStream, offset uint64, buffers mem.BufferSlice, data []byte, crc32c uint32,
) error {
	chunk := quartetv1.DownloadChunk_builder{Offset: offset, Data: data, Crc32C: crc32c}.Build()
	response := quartetv1.DownloadObjectResponse_builder{Chunk: chunk}.Build()
	message := bulk.Message{Message: response, Bulk: buffers}
	defer message.Free()
	return stream.SendMsg(&message)
}
