package object

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/server/object/store"
)

// DownloadObject (server streaming) sends an object, or a range of it. A reader that is slow holds the loop back, so that a download needs
// two chunks of memory whatever its size.
func (s *service) DownloadObject(r *quartetv1.DownloadObjectRequest, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	reader, err := s.store.OpenReader(stream.Context(), r.GetName(), r.GetGeneration(), clamp(r.GetReadOffset()), clamp(r.GetReadLimit()))
	if err != nil {
		return err
	}
	defer reader.Close()
	buffers, release, err := s.memory.forDownload(stream.Context(), reader.Remaining(), reader.Bytes())
	if err != nil {
		return err
	}
	defer release()
	defer buffers.Drain(stream.Context())
	head := quartetv1.DownloadObjectResponse_builder{Object: protoObject(reader.Object())}.Build()
	if err := stream.Send(head); err != nil {
		return err
	}
	return sendChunks(reader, buffers, r.GetReadOffset(), stream)
}

func sendChunks(reader *store.Reader, buffers *bulk.Buffers, offset uint64, stream grpc.ServerStream) error {
	for {
		buffer, err := buffers.Take(stream.Context())
		if err != nil {
			return err
		}
		n, crc32c, err := reader.Next(*buffer)
		if n == 0 {
			buffers.Put(buffer)
			return endOfContent(err)
		}
		*buffer = (*buffer)[:n]
		if err := sendChunk(stream, offset, buffers.Bulk(buffer), *buffer, crc32c); err != nil {
			return err
		}
		offset += uint64(n)
	}
}

func endOfContent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func sendChunk(stream grpc.ServerStream, offset uint64, buffers mem.BufferSlice, data []byte, crc32c uint32) error {
	chunk := quartetv1.DownloadChunk_builder{Offset: offset, Data: data, Crc32C: crc32c}.Build()
	message := bulk.Message{Message: quartetv1.DownloadObjectResponse_builder{Chunk: chunk}.Build(), Bulk: buffers}
	defer message.Free()
	return stream.SendMsg(&message)
}
