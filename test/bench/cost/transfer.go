package cost

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
)

var transfer = part{
	name:  "transfer",
	title: "Transfers of 64 MiB, server to client, one after the other",
	unit:  "chunks",
	loads: []Load{
		{Title: "chunks of 256 KiB", Workers: 1, Chunk: 256 << 10},
		{Title: "chunks of 1 MiB", Workers: 1, Chunk: 1 << 20},
	},
	run: download,
	goals: []goal{
		unresolved(oursMetricsName, rate),
		unresolved(oursTenthName, rate),
	},
}

// transferBytes is one transfer, of which several fit into a slice.
const transferBytes = 64 << 20

func download(ctx context.Context, w *worker) error {
	sizes := make([]*grpc_testing.ResponseParameters, transferBytes/w.Chunk)
	for i := range sizes {
		sizes[i] = &grpc_testing.ResponseParameters{Size: int32(w.Chunk)}
	}
	for !w.over() {
		stream, err := w.stub.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{ResponseParameters: sizes})
		if err != nil {
			return err
		}
		if err := untilEOF(stream); err != nil {
			return err
		}
		w.done += int64(len(sizes))
	}
	return nil
}

// untilEOF reads a stream to its end.
func untilEOF[Res any](stream grpc.ServerStreamingClient[Res]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
