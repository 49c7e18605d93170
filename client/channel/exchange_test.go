package channel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"example.com/quartet/client/channel"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/test/process/processtest"
)

// listen collects bodies until there are so many, or the conversation ends.
func listen(ctx context.Context, v *channel.Conversation, count int) ([]string, error) {
	var heard []string
	for len(heard) < count {
		m, err := v.Receive(ctx)
		if err != nil {
			return heard, err
		}
		heard = append(heard, string(m.GetBody()))
	}
	return heard, nil
}

// talk has two participants say 50 things each, with something done to the server or the connection
// in the middle, and checks that both heard the same, everything, and once.
func talk(t *testing.T, client *channel.Client, disturb func()) {
	t.Helper()
	const count = 50
	ctx := clienttest.Deadline(t)
	var heard [2][]string
	var running sync.WaitGroup
	for i, name := range []string{"alice", "bob"} {
		v, err := client.Join(ctx,
			channel.JoinOptions{Channel: t.Name(), Participant: name, After: new(uint64(0))})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		running.Go(func() {
			var err error
			if heard[i], err = listen(ctx, v, 2*count); err != nil {
				t.Errorf("%s heard %d of %d: %v", name, len(heard[i]), 2*count, err)
			}
		})
		running.Go(func() {
			for n := range count {
				if i == 0 && n == count/2 {
					disturb()
				}
				if _, err := v.Send(ctx, fmt.Appendf(nil, "%s %03d", name, n)); err != nil {
					t.Errorf("%s could not say %d: %v", name, n, err)
					return
				}
			}
		})
	}
	running.Wait()
	if !slices.Equal(heard[0], heard[1]) {
		t.Errorf("alice and bob heard different things:\n%q\n%q", heard[0], heard[1])
	}
	sorted := slices.Sorted(slices.Values(heard[0]))
	for i, name := range []string{"alice", "bob"} {
		for n := range count {
			if at := i*count + n; at >= len(sorted) || sorted[at] != fmt.Sprintf("%s %03d", name, n) {
				t.Fatalf("message %d of %s is missing or double", n, name)
			}
		}
	}
}

func TestAConversationSurvivesWhateverHappensToItsStreams(t *testing.T) {
	server := processtest.Start(t)
	proxy := clienttest.NewProxy(t, server.Address)
	client := newClient(t, proxy.Address, channel.Options{Resumption: rpc.Resumption{MaxTries: 1000}})
	t.Run("nothing happens", func(t *testing.T) {
		talk(t, client, func() {})
	})
	t.Run("the connection is cut", func(t *testing.T) {
		talk(t, client, proxy.CutAll)
	})
	t.Run("it is cut again and again, anywhere", func(t *testing.T) {
		talk(t, client, func() {
			proxy.CutAfter(100, 300, 500, 700, 1000, 1500, 2000)
			proxy.CutAll()
		})
	})
	t.Run("the server says goodbye and another comes", func(t *testing.T) {
		talk(t, client, func() {
			server.Stop()
			server.Restart()
		})
	})
	t.Run("the server crashes", func(t *testing.T) {
		talk(t, client, func() {
			server.Kill()
			server.Restart()
		})
	})
}

func TestLeavingDeliversTheRestAndEnds(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, channel.Options{})
	ctx := clienttest.Deadline(t)
	alice, err := client.Join(ctx, channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	heard := make(chan []string)
	go func() {
		all, err := listen(ctx, alice, 100)
		if !errors.Is(err, channel.ErrLeft) {
			t.Errorf("ended with %v", err)
		}
		heard <- all
	}()
	for _, body := range []string{"one", "two"} {
		if _, err := alice.Send(ctx, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	alice.Leave()
	if got := <-heard; !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("heard %q", got)
	}
	if _, err := alice.Send(ctx, nil); !errors.Is(err, channel.ErrLeft) {
		t.Errorf("sending after leaving gave %v", err)
	}
}

func TestAJoinThatIsRefusedSaysWhy(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, channel.Options{})
	_, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "", Participant: "alice"})
	if rpc.Reason(err) != "INVALID_NAME" {
		t.Errorf("got %v", err)
	}
}

func TestAMessageThatIsRefusedEndsTheConversationWithTheReason(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, channel.Options{})
	ctx := clienttest.Deadline(t)
	alice, err := client.Join(ctx, channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	if _, err := alice.Send(ctx, make([]byte, 64<<10+1)); rpc.Reason(err) != "BODY_TOO_LARGE" {
		t.Errorf("got %v", err)
	}
}

func TestAMessageGetsAReceiptAndComesAround(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, channel.Options{})
	ctx := clienttest.Deadline(t)
	alice, err := client.Join(ctx, channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	heard := make(chan string)
	go func() {
		m, _ := alice.Receive(ctx)
		heard <- string(m.GetBody())
	}()
	if receipt, err := alice.Send(ctx, []byte("hello")); err != nil || receipt.GetSequence() == 0 {
		t.Errorf("got %v, %v", receipt, err)
	}
	if got := <-heard; got != "hello" {
		t.Errorf("heard %q", got)
	}
}
