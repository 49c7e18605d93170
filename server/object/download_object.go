package object

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/server/object/engine"
)

// DownloadObject (server streaming) sends an object, or a range of it. A reader that is slow holds
// the loop back, so that a download needs the same memory whatever its size.
func (s *service) DownloadObject(
	r *quartetv1.DownloadObjectRequest,
	stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse],
) error {
	ctx := stream.Context()
	if err := engine.CheckName(r.GetName()); err != nil {
		return err
	}
	leave, err := s.limits.transfer(ctx)
	if err != nil {
		return err
	}
	defer leave()
	reader, err := s.engine.Open(ctx, r.GetName(), r.GetGeneration(), clamp(r.GetReadOffset()),
		clamp(r.GetReadLimit()))
	if err != nil {
		return s.metrics.saw(err)
	}
	defer reader.Close()
	if r.GetReadOffset() > 0 {
		s.metrics.resumedDownloads.Inc()
	}
	buffers, fast, release, err := s.memory.forDownload(ctx, reader)
	if err != nil {
		return err
	}
	defer release()
	defer buffers.Drain(ctx)
	head := quartetv1.DownloadObjectResponse_builder{Object: protoObject(reader.Object())}.Build()
	if err := stream.Send(head); err != nil {
		return err
	}
	for offset := r.GetReadOffset(); ; {
		buffer, err := buffers.Take(ctx)
		if err != nil {
			return err
		}
		n, crc32c, err := reader.Next(*buffer, fast)
		if err != nil {
			buffers.Put(buffer)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return s.metrics.saw(err)
		}
		*buffer = (*buffer)[:n]
		if err := sendChunk(stream, offset, buffers.Bulk(buffer), *buffer, crc32c); err != nil {
			return err
		}
		offset += uint64(n)
	}
}

func sendChunk(
	stream grpc.ServerStream, offset uint64, buffers mem.BufferSlice, data []byte, crc32c uint32,
) error {
	chunk := quartetv1.DownloadChunk_builder{Offset: offset, Data: data, Crc32C: crc32c}.Build()
	response := quartetv1.DownloadObjectResponse_builder{Chunk: chunk}.Build()
	message := bulk.Message{Message: response, Bulk: buffers}
	defer message.Free()
	return stream.SendMsg(&message)
}
