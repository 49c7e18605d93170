package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout is how long a test waits for what should happen at once.
const testTimeout = time.Minute

func testContext(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	tb.Cleanup(cancel)
	return ctx
}

// openBroker opens a broker that the end of the test closes.
func openBroker(tb testing.TB, url string, opts Options) *Broker {
	tb.Helper()
	b, err := Open(testContext(tb), url, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeBroker(tb, b) })
	return b
}

func closeBroker(tb testing.TB, b *Broker) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		tb.Error(err)
	}
}

func openEmbedded(tb testing.TB) *Broker {
	tb.Helper()
	return openBroker(tb, embeddedURL, Options{Dir: tb.TempDir()})
}

// startServer runs a server that listens, on a free port if port is -1.
func startServer(tb testing.TB, dir string, port int) *server.Server {
	tb.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	go srv.Start()
	if !srv.ReadyForConnections(testTimeout) {
		tb.Fatal("server does not start")
	}
	tb.Cleanup(func() { stopServer(srv) })
	return srv
}

func publish(tb testing.TB, b *Broker, channel, participant, id, body string) Receipt {
	tb.Helper()
	receipt, err := b.Publish(testContext(tb), channel,
		Message{Participant: participant, ID: id, Body: []byte(body)})
	if err != nil {
		tb.Fatal(err)
	}
	return receipt
}

// publishPatiently publishes for as long as a test waits, and not only as long as Publish does, to
// brokers that restart or have an election. A repetition of its own is no duplicate.
func publishPatiently(tb testing.TB, b *Broker, channel, participant, id string) Receipt {
	tb.Helper()
	ctx, m := testContext(tb), Message{Participant: participant, ID: id}
	receipt, err := b.Publish(ctx, channel, m)
	for errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		receipt, err = b.Publish(ctx, channel, m)
		receipt.Duplicate = false
	}
	if err != nil {
		tb.Fatal(err)
	}
	return receipt
}

// publishMany publishes n messages of a size, with the ids 0, 1, ..., and returns their sequences.
func publishMany(tb testing.TB, b *Broker, channel string, n, size int) []uint64 {
	tb.Helper()
	sequences := make([]uint64, n)
	for i := range n {
		sequences[i] = publish(tb, b, channel, "many", strconv.Itoa(i),
			string(make([]byte, size))).Sequence
	}
	return sequences
}

func subscribe(tb testing.TB, b *Broker, channel string, after *uint64) *Subscription {
	tb.Helper()
	s, err := b.Subscribe(testContext(tb), channel, startAfter(after))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// receive returns the next n messages, having checked that each names the one before as Previous.
func receive(tb testing.TB, s *Subscription, n int) []Message {
	tb.Helper()
	ctx := testContext(tb)
	previous := s.position.last
	messages := make([]Message, n)
	for i := range messages {
		m, err := s.Next(ctx)
		if err != nil {
			tb.Fatalf("message %d of %d: %v", i+1, n, err)
		}
		if m.Previous != previous || m.Sequence <= previous {
			tb.Fatalf("message %d follows %d, want %d", m.Sequence, m.Previous, previous)
		}
		previous, messages[i] = m.Sequence, m
	}
	return messages
}

// expectNone fails if there is a message. There is no condition to wait for, so this can miss one,
// but not invent one.
func expectNone(tb testing.TB, s *Subscription) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if m, err := s.Next(ctx); err == nil {
		tb.Fatalf("unexpected message %d: %q", m.Sequence, m.Body)
	}
}

func sequencesOf(messages []Message) []uint64 {
	sequences := make([]uint64, len(messages))
	for i, m := range messages {
		sequences[i] = m.Sequence
	}
	return sequences
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("waited in vain: " + what)
		}
	}
}

// onLog calls does with the message of each record.
type onLog struct {
	slog.Handler
	does func(message string)
}

func (h onLog) Enabled(context.Context, slog.Level) bool { return true }

func (h onLog) Handle(_ context.Context, record slog.Record) error {
	h.does(record.Message)
	return nil
}

func pointer(sequence uint64) *uint64 { return &sequence }

func serverURL(srv *server.Server) string { return fmt.Sprint("nats://", srv.Addr()) }

func startAfter(sequence *uint64) Start {
	if sequence == nil {
		return Start{}
	}
	return Start{After: &Position{Sequence: *sequence}}
}
