package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

var _ = register(service{
	name:  "echo",
	unary: quartetv1.EchoService_Echo_FullMethodName,
	streams: []string{
		quartetv1.EchoService_Chat_FullMethodName,
		quartetv1.EchoService_Collect_FullMethodName,
	},
	neighbour: neighbourly{
		lookup: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := quartetv1.NewEchoServiceClient(
				conn,
			).Echo(
				ctx,
				quartetv1.EchoRequest_builder{Text: "neighbour"}.Build(),
			)
			return err
		},
	},
	rows: []row{
		{
			name:    "echo-unread",
			holds:   true,
			does:    "sends texts of 60 KiB to Echo, and takes no byte of the replies",
			load:    load{1, 250},
			run:     echoUnread,
			refused: true,
		},
		{
			name:  "chat-unread",
			holds: true,
			does:  "sends texts of 60 KiB on Chat, and reads no reply",
			load:  load{1, 250},
			run:   chatUnread,
			worst: true,
		},
		{
			name:  "collect-held",
			holds: true,
			does:  "sends words up to the limit of Collect, and then nothing",
			load:  load{1, 250},
			run:   collectHeld,
		},
	},
})

func echoUnread(ctx context.Context, by *attacker) {
	request, err := proto.Marshal(quartetv1.EchoRequest_builder{Text: strings.Repeat("x", 60<<10)}.Build())
	if err != nil {
		by.answers.addError(err)
		return
	}
	body := message(0, request)
	by.window = 0
	by.eachOnWire(ctx, by.GRPC, func(_ context.Context, w *wire, _ int) error {
		s := w.begin(quartetv1.EchoService_Echo_FullMethodName)
		if err := w.send(s, body, true); err != nil {
			return err
		}
		return w.wait(s)
	})
}

func chatUnread(ctx context.Context, by *attacker) {
	text := strings.Repeat("x", 60<<10)
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		stream, err := quartetv1.NewEchoServiceClient(conn).Chat(ctx)
		for sequence := uint64(1); err == nil; sequence++ {
			err = stream.Send(quartetv1.ChatRequest_builder{Sequence: sequence, Text: text}.Build())
		}
		return ended(stream, err)
	})
}

func collectHeld(ctx context.Context, by *attacker) {
	word := strings.Repeat("x", 1<<10)
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		stream, err := quartetv1.NewEchoServiceClient(conn).Collect(ctx)
		for range 63 {
			if err == nil {
				err = stream.Send(quartetv1.CollectRequest_builder{Word: word}.Build())
			}
		}
		return ended(stream, err)
	})
}
