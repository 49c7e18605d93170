package echo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// gather collects what a callback gets.
func gather(into *[]string) func(string) error {
	return func(text string) error {
		*into = append(*into, text)
		return nil
	}
}

// texts is a channel that has all texts and is closed.
func texts(all ...string) <-chan string {
	c := make(chan string, len(all))
	for _, text := range all {
		c <- text
	}
	close(c)
	return c
}

// count is n texts, "0" and so on.
func count(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(i)
	}
	return all
}

func want(t *testing.T, got, want []string, err error) {
	t.Helper()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func wantStreams(t *testing.T, f *fake, want int) {
	t.Helper()
	if got := int(f.streams.Load()); got != want {
		t.Errorf("%d streams, want %d", got, want)
	}
}

func TestTheFourModes(t *testing.T) {
	server := processtest.Start(t)
	conn := clienttest.Dial(t, telemetry.Discard(), server.Address, descriptor)
	client, ctx := NewClient(conn, Options{}), clienttest.Deadline(t)
	t.Run("unary: a text comes back", func(t *testing.T) {
		if got, err := client.Echo(ctx, "hello there"); err != nil || got != "hello there" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("server streaming: a text comes back word by word", func(t *testing.T) {
		for _, text := range []string{"one two three", "one", "", " two  spaces "} {
			var got []string
			err := client.Expand(ctx, text, gather(&got))
			want(t, got, strings.Split(text, " "), err)
		}
	})
	t.Run("client streaming: words come back as one text", func(t *testing.T) {
		for _, words := range [][]string{{"one", "two", "three"}, {"one"}, {}} {
			if got, err := client.Collect(ctx, words); err != nil || got != strings.Join(words, " ") {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
	t.Run("bidirectional: each text comes back as it is said", func(t *testing.T) {
		said := make(chan string)
		var got []string
		go func() { said <- "first" }()
		err := client.Chat(ctx, said, func(text string) error {
			got = append(got, text)
			if len(got) == 3 {
				close(said)
			} else {
				go func() { said <- fmt.Sprint(text, "!") }() // The answer depends on the reply.
			}
			return nil
		})
		want(t, got, []string{"first", "first!", "first!!"}, err)
	})
	t.Run("a text that is too large is refused, and the call not repeated", func(t *testing.T) {
		large := strings.Repeat("x", 64<<10+1)
		_, echo := client.Echo(ctx, large)
		_, collect := client.Collect(ctx, []string{large})
		for method, err := range map[string]error{
			"Echo": echo, "Expand": client.Expand(ctx, large, gather(new([]string))), "Collect": collect,
			"Chat": client.Chat(ctx, texts(large), gather(new([]string))),
		} {
			if status.Code(err) != codes.InvalidArgument || rpc.Reason(err) != "TEXT_TOO_LARGE" {
				t.Errorf("%s: %v", method, err)
			}
		}
	})
}

func TestAChatSurvivesTheEndOfItsServer(t *testing.T) {
	server := processtest.Start(t)
	conn := clienttest.Dial(t, telemetry.Discard(), server.Address, descriptor)
	client := NewClient(conn, Options{Resumption: clienttest.FastRetries()})
	all := count(300)
	said := make(chan string)
	go func() {
		defer close(said)
		for i, text := range all {
			switch i {
			case 100:
				server.Stop()
				server.Restart()
			case 200:
				server.Kill()
				server.Restart()
			}
			said <- text
		}
	}()
	var got []string
	err := client.Chat(clienttest.Deadline(t), said, gather(&got))
	want(t, got, all, err)
}

func TestStreamsSurviveACutAtAnyByte(t *testing.T) {
	f := &fake{}
	proxy := clienttest.NewProxy(t, f.start(t))
	conn := clienttest.Dial(t, telemetry.Discard(), proxy.Address, descriptor)
	client := NewClient(conn, Options{Resumption: rpc.Resumption{RetryDelay: time.Millisecond, MaxTries: 100}})
	all := count(200)
	// Expand is repeated by grpc-go too, after pauses that no test can shorten.
	step := map[string]int{"Expand": 3, "Collect": 20, "Chat": 20}
	for name, call := range map[string]func(context.Context) ([]string, error){
		"Expand": func(ctx context.Context) (got []string, err error) {
			err = client.Expand(ctx, strings.Join(all, " "), gather(&got))
			return got, err
		},
		"Collect": func(ctx context.Context) ([]string, error) {
			got, err := client.Collect(ctx, all)
			return strings.Split(got, " "), err
		},
		"Chat": func(ctx context.Context) (got []string, err error) {
			err = client.Chat(ctx, texts(all...), gather(&got))
			return got, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for cut := 0; cut < 9000; cut += 1 + cut/step[name] {
				proxy.CutAll()
				proxy.CutAfter(cut, cut/2)
				got, err := call(clienttest.Deadline(t))
				if want(t, got, all, err); t.Failed() {
					t.Fatalf("cut after %d bytes", cut)
				}
			}
		})
	}
}
