package channel_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// lossy is a connection over which some replies are lost while losing is set, as they are when a
// server dies before they arrive.
type lossy struct {
	grpc.ClientConnInterface
	losing atomic.Bool
	lose   func(*quartetv1.ExchangeResponse) bool
}

func (l *lossy) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := l.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	return &lossyStream{stream, l}, err
}

type lossyStream struct {
	grpc.ClientStream
	*lossy
}

func (s *lossyStream) RecvMsg(m any) error {
	for {
		err := s.ClientStream.RecvMsg(m)
		reply, ok := m.(*quartetv1.ExchangeResponse)
		if err != nil || !ok || !s.losing.Load() || !s.lose(reply) {
			return err
		}
	}
}

// dial connects without the comforts of the client.
func dial(t *testing.T, server *processtest.Server) *grpc.ClientConn {
	t.Helper()
	return clienttest.Dial(t, telemetry.Discard(), server.Address,
		quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService"))
}

// awaitForgotten returns when the server does not know message ids any more that it knows now.
func awaitForgotten(t *testing.T, server *processtest.Server) {
	t.Helper()
	stream, err := quartetv1.NewChannelServiceClient(dial(t, server)).Exchange(clienttest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	request := quartetv1.ExchangeRequest_builder{Join: quartetv1.Join_builder{
		Channel: "probe", Participant: "probe"}.Build()}.Build()
	for said := 0; said < 2; {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		request = quartetv1.ExchangeRequest_builder{Message: quartetv1.SendMessage_builder{
			MessageId: "probe"}.Build()}.Build()
		for answered := false; !answered; {
			reply, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			answered = reply.HasReceipt() || reply.HasJoined()
			if reply.HasReceipt() && !reply.GetReceipt().GetDuplicate() {
				said++
			}
		}
	}
}

// The inputs are those of a report: a server dies before the receipt, and is back when it has
// forgotten the message_id.
func TestAMessageWhoseReceiptIsLostIsKeptOnceHoweverLongTheBreak(t *testing.T) {
	const others = 20
	for name, lose := range map[string]func(*quartetv1.ExchangeResponse) bool{
		"everything is lost": func(*quartetv1.ExchangeResponse) bool { return true },
		"receipts are lost":  func(r *quartetv1.ExchangeResponse) bool { return r.HasReceipt() },
	} {
		t.Run(name, func(t *testing.T) {
			server := processtest.Start(t, process.Setting("CHANNEL_DEDUP_WINDOW", "100ms"))
			ctx := clienttest.Deadline(t)
			join := func(client *channel.Client, name string) *channel.Conversation {
				v, err := client.Join(ctx, channel.JoinOptions{Channel: "room", Participant: name})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(v.Close)
				return v
			}
			conn := &lossy{lose: lose, ClientConnInterface: dial(t, server)}
			alice := join(channel.NewClient(conn,
				channel.Options{Resumption: clienttest.FastRetries()}), "alice")
			bob := join(newClient(t, server.Address, channel.Options{}), "bob")
			// It has the same name, which makes none of its messages alice's.
			namesake := join(newClient(t, server.Address, channel.Options{}), "alice")
			go func() { _, _ = listen(ctx, namesake, 2*others+2) }()

			conn.losing.Store(true)
			var want []string
			say := func(v *channel.Conversation, body string) *quartetv1.Receipt {
				receipt, err := v.Send(ctx, []byte(body))
				if err != nil {
					t.Fatal(err)
				}
				return receipt
			}
			for i := range others {
				want = append(want, fmt.Sprint("before ", i))
				say(namesake, want[i])
			}
			receipt := make(chan *quartetv1.Receipt, 1)
			heardByAlice := make(chan []string, 1)
			go func() {
				got, err := alice.Send(ctx, []byte("once"))
				if err != nil {
					t.Error(err)
				}
				receipt <- got
			}()
			go func() {
				heard, err := listen(ctx, alice, 2*others+2)
				if err != nil {
					t.Error(err)
				}
				heardByAlice <- heard
			}()
			want = append(want, "once")
			var sequence uint64
			heard, err := listen(ctx, bob, others)
			if err != nil {
				t.Fatal(err)
			}
			once, err := bob.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			heard, sequence = append(heard, string(once.GetBody())), once.GetSequence()
			awaitForgotten(t, server)
			server.Kill()
			conn.losing.Store(false)
			server.Restart()

			if got := (<-receipt).GetSequence(); got != sequence {
				t.Fatalf("the receipt has the sequence %d, the message %d", got, sequence)
			}
			for i := range others {
				want = append(want, fmt.Sprint("after ", i))
				say(namesake, want[len(want)-1])
			}
			say(alice, "last")
			want = append(want, "last")
			rest, err := listen(ctx, bob, others+1)
			if err != nil {
				t.Fatal(err)
			}
			if heard = append(heard, rest...); !slices.Equal(heard, want) {
				t.Errorf("bob has received %q", heard)
			}
			if heard := <-heardByAlice; !slices.Equal(heard, want) {
				t.Errorf("alice has received %q", heard)
			}
		})
	}
}
