package main

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/transfer"
	"example.com/quartet/server/object"
)

// DownloadObject sends an object, or a range of it. A reader that is slow holds the loop back in Send, so that a
// download needs one chunk of memory whatever its size.
func (s *objectService) DownloadObject(r *quartetv1.DownloadObjectRequest, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	reader, err := s.store.OpenReader(stream.Context(), r.GetName(), r.GetGeneration(), clamp(r.GetReadOffset()), clamp(r.GetReadLimit()))
	if err != nil {
		return err
	}
	defer reader.Close()
	head := quartetv1.DownloadObjectResponse_builder{Object: protoObject(reader.Object())}.Build()
	if err := stream.Send(head); err != nil {
		return err
	}
	return s.sendChunks(reader, r.GetReadOffset(), stream)
}

func (s *objectService) sendChunks(reader *object.Reader, offset uint64, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	// Send is done with the data when it returns, so one buffer serves all chunks.
	buffer := make([]byte, s.chunkBytes)
	for {
		n, err := io.ReadFull(reader, buffer)
		if n > 0 {
			if err := stream.Send(downloadChunk(offset, buffer[:n])); err != nil {
				return err
			}
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func downloadChunk(offset uint64, data []byte) *quartetv1.DownloadObjectResponse {
	return quartetv1.DownloadObjectResponse_builder{
		Chunk: quartetv1.DownloadChunk_builder{
			Offset: offset,
			Data:   data,
			Crc32C: transfer.Checksum(data),
		}.Build(),
	}.Build()
}
