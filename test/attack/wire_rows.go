package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"strings"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// wireRows are attacks on what gRPC has for all services.
var wireRows = []row{
	{
		name:    "silent-streams",
		holds:   true,
		does:    "sends the headers of streams, and nothing else",
		load:    load{4, 250},
		run:     func(ctx context.Context, by *attacker) { by.silent(ctx, streamMethods()) },
		refused: true,
		worst:   true,
	},
	{
		name:    "silent-requests",
		holds:   true,
		does:    "sends the headers of unary calls, and nothing else",
		load:    load{4, 250},
		run:     func(ctx context.Context, by *attacker) { by.silent(ctx, unaryMethods()) },
		refused: true,
	},
	{
		name:    "unary-cut",
		holds:   true,
		does:    "sends requests of 1 MiB without their last byte",
		load:    load{1, 250},
		run:     unaryCut,
		refused: true,
		worst:   true,
	},
	{
		name:  "unknown-fields",
		holds: true,
		does:  "sends requests with 1 MiB of fields that no message has",
		load:  load{1, 20},
		flood: true,
		run: func(ctx context.Context, by *attacker) {
			body := unknownFields(1 << 20)
			by.each(ctx, by.sendBytes(func(int) []byte { return body }))
		},
	},
	{
		name:  "gzip",
		holds: true,
		does:  "sends requests of 1 KB that are 1 MiB when decompressed",
		load:  load{1, 20},
		flood: true,
		run:   gzipBomb,
		worst: true,
	},
	{
		name:  "unknown-method",
		holds: true,
		does:  "calls a method whose name has 3,500 bytes 0xff, by reference",
		load:  load{1, 100},
		flood: true,
		run: func(ctx context.Context, by *attacker) {
			by.slow = 0
			path := "/x/" + strings.Repeat("\xff", 3500)
			by.eachOnWire(ctx, by.GRPC, func(_ context.Context, w *wire, _ int) error {
				s := w.begin(path)
				_ = w.send(s, message(0, nil), true)
				return w.wait(s)
			})
		},
	},
	{
		name:  "canceled",
		holds: true,
		does:  "cancels calls as soon as they have begun",
		load:  load{1, 100},
		flood: true,
		run: func(ctx context.Context, by *attacker) {
			by.slow = 0
			by.eachOnWire(ctx, by.GRPC, func(_ context.Context, w *wire, n int) error {
				s := w.begin(pick(unaryMethods(), n))
				_ = w.send(s, message(0, nil), true)
				w.reset(s)
				return w.wait(s)
			})
		},
	},
	{
		name:  "health-names",
		holds: true,
		does:  "watches the health of services with names of 1.1 MB",
		load:  load{1, 250},
		run:   func(ctx context.Context, by *attacker) { by.watch(ctx, by.GRPC, 1_100_000) },
	},
}

// pick is one of some names.
func pick(names []string, n int) string { return names[n%len(names)] }

// silent opens streams and holds on to them.
func (a *attacker) silent(ctx context.Context, methods []string) {
	a.eachOnWire(ctx, a.GRPC, func(_ context.Context, w *wire, n int) error {
		return w.wait(w.begin(pick(methods, n)))
	})
}

func unaryCut(ctx context.Context, by *attacker) {
	body := message(0, make([]byte, 1<<20))
	by.eachOnWire(ctx, by.GRPC, func(_ context.Context, w *wire, n int) error {
		s := w.begin(pick(unaryMethods(), n))
		if err := w.send(s, body[:len(body)-1], false); err != nil {
			return err
		}
		return w.wait(s)
	})
}

// unknownFields is a message with fields of a few bytes each.
func unknownFields(size int) (body []byte) {
	for len(body) < size {
		body = protowire.AppendTag(body, 1000, protowire.VarintType)
		body = protowire.AppendVarint(body, 1)
	}
	return body
}

func gzipBomb(ctx context.Context, by *attacker) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	// A field that no message has, with bytes.
	body := protowire.AppendBytes(
		protowire.AppendTag(nil, 1000, protowire.BytesType),
		make([]byte, 1<<20-16),
	)
	_, _ = writer.Write(body) // It writes to memory.
	_ = writer.Close()
	by.eachOnWire(ctx, by.GRPC, func(_ context.Context, w *wire, n int) error {
		s := w.begin(pick(unaryMethods(), n), "grpc-encoding", "gzip")
		_ = w.send(s, message(1, packed.Bytes()), true)
		return w.wait(s)
	})
}

// watch has requests of health for services with long names, and holds on to the streams.
func (a *attacker) watch(ctx context.Context, address string, size int) {
	request, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: strings.Repeat("x", size)})
	if err != nil {
		a.answers.addError(err)
		return
	}
	body := message(0, request)
	a.eachOnWire(ctx, address, func(_ context.Context, w *wire, _ int) error {
		s := w.begin(healthpb.Health_Watch_FullMethodName)
		if err := w.send(s, body, true); err != nil {
			return err
		}
		return w.wait(s)
	})
}
