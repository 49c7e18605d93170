package cost

import (
	"context"

	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/measure"
)

var oneway = part{
	name:  "oneway",
	title: "One-way messages of 100 bytes, client to server",
	unit:  "messages",
	loads: []Load{{Title: "1 stream", Workers: 1}},
	run:   send,
	goals: []goal{
		measure.AtLeast(oursMetricsName, bareName, rate, 0.88),
		measure.AtLeast(oursMetricsName, bareName, rate, 0.90).Stretched(),
		atMostMore(oursMetricsName, bareName, allocs, 0.05), // A whole one would be one per message.
	},
}

// batch is how many messages are sent between two looks at the clock, which costs a tenth of
// sending one.
const batch = 64

func send(ctx context.Context, w *worker) error {
	stream, err := w.stub.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	message := &grpc_testing.StreamingInputCallRequest{Payload: payload(smallBytes)}
	for !w.over() {
		for range batch {
			if err := stream.Send(message); err != nil {
				_, err = stream.CloseAndRecv() // It knows why.
				return err
			}
		}
		w.done += batch
	}
	_, err = stream.CloseAndRecv()
	return err
}
