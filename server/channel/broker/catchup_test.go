package broker

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// long is how many messages a reader with a consumer has to read.
const long = 4 * batchMessages

// publishLong publishes long messages to each channel.
func publishLong(t *testing.T, b *Broker, channels ...string) {
	t.Helper()
	b.consumers.worthwhile = batchMessages
	var publishers sync.WaitGroup
	for _, channel := range channels {
		for p := range 8 {
			publishers.Go(func() {
				for i := range long / 8 {
					m := Message{Participant: strconv.Itoa(p), ID: strconv.Itoa(i), Body: make([]byte, 100)}
					if _, err := b.Publish(t.Context(), channel, m); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	publishers.Wait()
}

func TestALongReplayHasAllMessagesOnceWhateverBecomesOfItsConsumer(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv), Options{})
	publishLong(t, b, "room", "another")
	for name, event := range map[string]func(c *consumer){
		"nothing happens": func(*consumer) {},
		"JetStream deletes the consumer": func(c *consumer) {
			if err := b.js.DeleteConsumer(testContext(t), b.names.stream, c.name); err != nil {
				t.Error(err)
			}
		},
		"a message is lost on the way": func(c *consumer) { c.delivered-- },
		"the connection breaks":        func(*consumer) { _ = b.nc.ForceReconnect() },
	} {
		s := subscribe(t, b, "room", pointer(0))
		received := receive(t, s, 2*batchMessages)
		c := s.consumer.Load()
		if c == nil {
			t.Fatalf("%s: there is no consumer", name)
		}
		event(c)
		late := publish(t, b, "room", "ann", strings.ReplaceAll(name, " ", "-"), "").Sequence
		rest := receive(t, s, long-len(received))
		received = append(received, rest...)
		for newest := rest[len(rest)-1]; newest.Sequence < late; {
			newest = receive(t, s, 1)[0]
			received = append(received, newest)
		}
		if got := sequencesOf(received); !slices.IsSorted(got) ||
			received[len(received)-1].Sequence != late {
			t.Errorf("%s: %d messages until %d, want %d last", name, len(got), got[len(got)-1], late)
		}
		expectNone(t, s)
		if s.consumer.Load() != nil {
			t.Errorf("%s: the reader waits, and keeps its consumer", name)
		}
		s.Close()
	}
	eventually(t, "all consumers are deleted", func() bool {
		info, err := b.stream.Info(testContext(t))
		return err == nil && info.State.Consumers == 0
	})
	if !b.places.TryAcquire(consumersAtOnce) {
		t.Error("a place was not given back")
	}
}

func TestALongReplayNeedsNoPermissionForConsumers(t *testing.T) {
	t.Parallel()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.>"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { stopServer(srv) })
	if !srv.ReadyForConnections(testTimeout) {
		t.Fatal("server does not start")
	}
	b := openBroker(t, "nats://u:p@"+srv.Addr().String(), Options{})
	publishLong(t, b, "room", "another")
	receive(t, subscribe(t, b, "room", pointer(0)), long)
	if !b.pausesConsumers() {
		t.Error("the next reader would try again at once")
	}
}

// Behind the first batches the damage is one that a consumer skips.
func TestDamageInALongReplayIsToldToTheReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBroker(t, embeddedURL, Options{Dir: dir})
	publishLong(t, b, "room")
	closeBroker(t, b)
	// In the headers of a message. A server of NATS, which nothing mends before it starts, as the
	// embedded one is, does not start for minutes if it is an upper bit of a sequence.
	changeBlock(t, dir,
		func(data []byte) { data[bytes.LastIndex(data[:len(data)/2], []byte("NATS/1.0"))] ^= 0x10 })
	b = openBroker(t, serverURL(startServer(t, dir, -1)), Options{})
	b.consumers.worthwhile = batchMessages
	s := subscribe(t, b, "room", pointer(0))
	var err error
	n, consumed := 0, false
	for ; err == nil && n < long; n++ {
		_, err = s.Next(testContext(t))
		consumed = consumed || s.consumer.Load() != nil
	}
	var broken *BreakError
	if !consumed || !errors.As(err, &broken) || !errors.Is(err, ErrDamaged) {
		t.Errorf("%d messages, then %v, consumer: %t", n, err, consumed)
	}
}

func TestASubscriptionThatIsClosedMeanwhileKeepsNeitherMemoryNorConsumer(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	publishLong(t, b, "room", "another")
	for range 20 {
		s, err := b.Subscribe(testContext(t), "room", startAfter(pointer(0)))
		if err != nil {
			t.Fatal(err)
		}
		receive(t, s, batchMessages/2)
		var reading sync.WaitGroup
		reading.Go(func() {
			for ctx := context.Background(); ; {
				if _, err := s.Next(ctx); err != nil {
					return
				}
			}
		})
		s.Close()
		reading.Wait()
	}
	if !b.places.TryAcquire(consumersAtOnce) || b.batches.Callers() != 0 {
		t.Error("something was not given back")
	}
}
