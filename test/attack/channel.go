package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// messagesKept says what bounds the messages that stay after an attack.
const messagesKept = "messages count towards CHANNEL_MAX_BYTES, and the oldest make room"

// fatChannel is what late readers read.
const fatChannel = "fat"

var _ = register(service{
	name:    "channel",
	streams: []string{quartetv1.ChannelService_Exchange_FullMethodName},
	neighbour: neighbourly{
		// The embedded broker keeps the block that it writes, of up to 8 MiB, in memory. That is no
		// attack's doing.
		prepare: func(ctx context.Context,
			conn *grpc.ClientConn) error {
			return fill(ctx, conn, "neighbour-before", 75)
		},
		steady: []steady{{"chat", 100 * time.Millisecond, converse}},
	},
	rows: []row{
		{
			name:  "exchange-unread",
			does:  "sends messages of 60 KiB on Exchange, each stream in a channel of its own, and reads no reply",
			load:  load{1, 250},
			keeps: messagesKept,
			run:   exchangeUnread,
			worst: true,
		},
		{name: "publisher", does: "sends small messages, and reads the replies", load: load{1, 60},
			flood: true, keeps: messagesKept, run: publish},
		{name: "full-rings", does: "fills the memory of many channels, with receipts awaited",
			load: load{2, 200}, flood: true, keeps: messagesKept, run: fullRings},
		{
			name: "late-readers",
			does: "joins a channel of 280 messages of 60 KiB from its beginning, and reads nothing",
			load: load{4, 240}, keeps: messagesKept, prepare: makeFatChannel, amount: 280, run: lateReaders,
		},
		{name: "channels", holds: true, does: "sends one message to each of many channels",
			load: load{1, 50}, flood: true, keeps: messagesKept, run: manyChannels},
	},
})

func join(
	ctx context.Context,
	conn *grpc.ClientConn,
	channel, participant string,
	after *uint64,
) (grpc.BidiStreamingClient[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse], error) {
	stream, err := quartetv1.NewChannelServiceClient(conn).Exchange(ctx)
	if err != nil {
		return nil, err
	}
	// A stream that has ended says why when it is read.
	_ = stream.Send(quartetv1.ExchangeRequest_builder{
		Join: quartetv1.Join_builder{Channel: channel, Participant: participant,
			AfterSequence: after}.Build(),
	}.Build())
	return stream, nil
}

func say(body []byte) *quartetv1.ExchangeRequest {
	return quartetv1.ExchangeRequest_builder{
		Message: quartetv1.SendMessage_builder{MessageId: uuid.NewString(), Body: body}.Build(),
	}.Build()
}

// converse joins a channel, and then says something and waits until it comes back with its receipt.
func converse(ctx context.Context, conn *grpc.ClientConn) (func(context.Context) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := join(ctx, conn, "neighbour", "neighbour", nil)
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return func(within context.Context) error {
		stop := context.AfterFunc(within, cancel)
		defer stop()
		request := say([]byte("hello"))
		if err := stream.Send(request); err != nil {
			return ended(stream, err)
		}
		id := request.GetMessage().GetMessageId()
		for receipt, echo := false, false; !receipt || !echo; {
			reply, err := stream.Recv()
			if err != nil {
				return err
			}
			if reply.HasGoodbye() {
				return status.Error(codes.Unavailable, "goodbye")
			}
			receipt = receipt || reply.GetReceipt().GetMessageId() == id
			echo = echo || reply.GetMessage().GetMessageId() == id
		}
		return nil
	}, nil
}

func exchangeUnread(ctx context.Context, by *attacker) {
	body := make([]byte, 60<<10)
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		stream, err := join(ctx, conn, fmt.Sprintf("unread-%d", n), "attacker", nil)
		for err == nil {
			err = stream.Send(say(body))
		}
		return ended(stream, err)
	})
}

// publish sends as fast as replies come, some ahead of them.
func publish(ctx context.Context, by *attacker) {
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		return exchange(ctx, conn, fmt.Sprintf("publisher-%d", n), 64, 64, nil)
	})
}

// fullRings sends what a channel keeps in memory, and stays.
func fullRings(ctx context.Context, by *attacker) {
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		return exchange(ctx, conn, fmt.Sprintf("ring-%d", n), 60<<10, 32,
			func(sent int) bool { return sent < 32 })
	})
}

// exchange sends messages of a size, with so many at most without receipt, as long as more says so,
// and reads replies until the end.
func exchange(ctx context.Context, conn *grpc.ClientConn, channel string, size, ahead int,
	more func(sent int) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := join(ctx, conn, channel, "attacker", nil)
	if err != nil {
		return err
	}
	room := make(chan struct{}, ahead)
	go func() {
		body := make([]byte, size)
		for sent := 0; more == nil || more(sent); sent++ {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if stream.Send(say(body)) != nil {
				return // The status follows.
			}
		}
	}()
	for {
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if reply.HasReceipt() {
			<-room
		}
	}
}

func makeFatChannel(ctx context.Context, t target, amount int) error {
	conn, err := dial(t.GRPC, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	return fill(ctx, conn, fatChannel, amount)
}

// fill sends so many messages of 60 KiB to a channel.
func fill(ctx context.Context, conn *grpc.ClientConn, channel string, amount int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := join(ctx, conn, channel, "publisher", nil)
	if err != nil {
		return err
	}
	for range amount {
		if err := stream.Send(say(make([]byte, 60<<10))); err != nil {
			return ended(stream, err)
		}
		for {
			reply, err := stream.Recv()
			if err != nil {
				return err
			}
			if reply.HasReceipt() {
				break
			}
		}
	}
	return nil
}

// lateReaders have small windows, so that the server keeps what they do not take.
func lateReaders(ctx context.Context, by *attacker) {
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		stream, err := join(ctx, conn, fatChannel, "late", new(uint64))
		if err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
}

func manyChannels(ctx context.Context, by *attacker) {
	by.each(ctx, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := join(ctx, conn, uuid.NewString(), "attacker", nil)
		if err == nil {
			err = stream.Send(say([]byte("one")))
		}
		for err == nil {
			var reply *quartetv1.ExchangeResponse
			if reply, err = stream.Recv(); reply.HasReceipt() {
				return nil
			}
		}
		return err
	})
}
