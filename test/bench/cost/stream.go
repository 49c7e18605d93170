package cost

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/measure"
)

var stream = part{
	name:  "stream",
	title: "Echo over a bidirectional stream, 100 bytes there and back",
	unit:  "echoes",
	loads: []Load{
		{Title: "1 stream", Workers: 1},
		{Title: "16 streams", Workers: 16},
	},
	run: echo,
	goals: []goal{
		measure.AtMost(oursMetricsName, bareName, p50, 1.05),
		measure.AtMost(oursMetricsName, bareName, p99, 1.15),
	},
}

// echo sends one message, waits until it is back, and sends the next.
func echo(ctx context.Context, w *worker) error {
	stream, err := w.stub.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	message := &grpc_testing.StreamingOutputCallRequest{Payload: payload(smallBytes)}
	for !w.over() {
		start := time.Now()
		if err := stream.Send(message); err != nil {
			return cause(stream, err)
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		w.did(start)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return untilEOF(stream)
}

// cause is why a message could not be sent; a stream tells that only when it receives.
func cause[Res any](stream grpc.ServerStreamingClient[Res], err error) error {
	if _, reason := stream.Recv(); reason != nil {
		return reason
	}
	return err
}
