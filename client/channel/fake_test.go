package channel

import (
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
)

// fake is a channel with one participant and what was said there before. It is right unless it was
// told to twist something.
type fake struct {
	quartetv1.UnimplementedChannelServiceServer

	twistReplies func([]*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse // to one message

	mu       sync.Mutex
	messages []*quartetv1.ChannelMessage
}

// startFake listens on a port of its own and returns the fake and where it is.
func startFake(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{}
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterChannelServiceServer(r, f) })
	return f, address
}

func (f *fake) Exchange(stream grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	var join *quartetv1.Join
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var replies []*quartetv1.ExchangeResponse
		if r.HasJoin() {
			join = r.GetJoin()
			replies = f.enter(join)
		} else {
			replies = f.take(join.GetParticipant(), r.GetMessage())
		}
		for _, reply := range replies {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}
}

func (f *fake) enter(join *quartetv1.Join) []*quartetv1.ExchangeResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := uint64(len(f.messages))
	if join.HasAfterSequence() {
		after = join.GetAfterSequence()
	}
	replies := []*quartetv1.ExchangeResponse{quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{
		LastSequence: uint64(len(f.messages)), AfterSequence: after,
	}.Build()}.Build()}
	for _, m := range f.messages[after:] {
		replies = append(replies, quartetv1.ExchangeResponse_builder{Message: m}.Build())
	}
	return replies
}

func (f *fake) take(participant string, m *quartetv1.SendMessage) []*quartetv1.ExchangeResponse {
	kept := f.say(participant, string(m.GetBody()))
	replies := []*quartetv1.ExchangeResponse{
		quartetv1.ExchangeResponse_builder{Message: proto.CloneOf(kept)}.Build(),
		quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
			MessageId: m.GetMessageId(), Sequence: kept.GetSequence(),
		}.Build()}.Build(),
	}
	if f.twistReplies != nil {
		replies = f.twistReplies(replies)
	}
	return replies
}

func (f *fake) say(participant, body string) *quartetv1.ChannelMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := quartetv1.ChannelMessage_builder{
		Sequence: uint64(len(f.messages) + 1), PreviousSequence: uint64(len(f.messages)),
		Participant: participant, Body: []byte(body),
		CreateTime: &timestamppb.Timestamp{Seconds: 1_800_000_000},
	}.Build()
	f.messages = append(f.messages, m)
	return m
}
