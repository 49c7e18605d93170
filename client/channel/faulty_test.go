package channel_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
)

// exchangeServer is the server's side of the RPC.
type exchangeServer = grpc.BidiStreamingServer[
	quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]

// faulty is a server that breaks the contract, as its field says.
type faulty struct {
	quartetv1.UnimplementedChannelServiceServer
	exchange func(exchangeServer) error
}

func (f *faulty) Exchange(s exchangeServer) error {
	return f.exchange(s)
}

func (f *faulty) client(t *testing.T) *channel.Client {
	t.Helper()
	return f.clientWith(t, channel.Options{Resumption: clienttest.FewRetries()})
}

func (f *faulty) clientWith(t *testing.T, options channel.Options) *channel.Client {
	t.Helper()
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterChannelServiceServer(r, f) })
	return newClient(t, address, options)
}

func TestAServerThatHangsIsCutAndGivenUp(t *testing.T) {
	hang := &faulty{exchange: func(s exchangeServer) error {
		<-s.Context().Done()
		return s.Context().Err()
	}}
	begun := time.Now()
	client := hang.clientWith(t, channel.Options{Resumption: clienttest.CutSoon()})
	_, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err == nil || time.Since(begun) > 30*time.Second {
		t.Errorf("got %v after %v", err, time.Since(begun))
	}
}

func TestAMissedMessageIsNoticed(t *testing.T) {
	client := (&faulty{exchange: func(s exchangeServer) error {
		for _, reply := range []*quartetv1.ExchangeResponse{
			quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{LastSequence: 5,
				AfterSequence: 5}.Build()}.Build(),
			quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{Sequence: 7,
				PreviousSequence: 5}.Build()}.Build(),
			quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{Sequence: 9,
				PreviousSequence: 8}.Build()}.Build(),
		} {
			if err := s.Send(reply); err != nil {
				return err
			}
		}
		<-s.Context().Done()
		return nil
	}}).client(t)
	alice, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	if m, err := alice.Receive(clienttest.Deadline(t)); err != nil || m.GetSequence() != 7 {
		t.Fatalf("got %v, %v", m, err)
	}
	if _, err := alice.Receive(clienttest.Deadline(t)); !errors.Is(err, channel.ErrGap) {
		t.Errorf("got %v", err)
	}
}
