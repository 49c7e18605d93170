package cost

import (
	"context"
	"time"

	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/test/bench/measure"
)

var unary = part{
	name:  "unary",
	title: "Unary calls, 100 bytes there and back",
	unit:  "calls",
	loads: []Load{
		{Title: "1 at a time", Workers: 1},
		{Title: "16 at a time", Workers: 16},
		{Title: "64 at a time", Workers: 64},
	},
	run: callUnary,
	goals: []goal{
		atMostMore(oursTenthName, bareName, allocs, 16),
		measure.AtLeast(oursTenthName, bareName, rate, 0.80),
		measure.AtLeast(oursTenthName, bareName, rate, 0.85).Stretched(),
		measure.AtLeast(oursTenthName, usualTenthName, rate, 1.3),
		measure.AtMost(oursTenthName, bareName, p99, 1.3),
	},
}

func callUnary(ctx context.Context, w *worker) error {
	request := &grpc_testing.SimpleRequest{Payload: payload(smallBytes)}
	for !w.over() {
		start := time.Now()
		if _, err := w.stub.UnaryCall(ctx, request); err != nil {
			return err
		}
		w.did(start)
	}
	return nil
}
