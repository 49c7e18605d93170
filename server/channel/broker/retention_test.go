package broker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// tiny keeps about ten messages of the size that these tests use.
func tiny(t *testing.T) *Broker {
	return openBroker(t, embeddedURL, Options{Dir: t.TempDir(), MaxBytes: 640 << 10})
}

const (
	size = 60 << 10
	many = 40 // more than are kept, and more than the ring holds
)

func TestJoinAfterADiscardedMessageIsRefused(t *testing.T) {
	t.Parallel()
	b := tiny(t)
	sent := publishMany(t, b, "room", many, size)
	if _, err := b.Subscribe(testContext(t), "room", startAfter(&sent[0])); !errors.Is(err,
		ErrSequenceGone) {
		t.Error(err)
	}
}

func TestAllThatIsKeptStartsWithTheFirstKept(t *testing.T) {
	t.Parallel()
	b := tiny(t)
	sent := publishMany(t, b, "room", many, size)
	now, err := b.state(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	kept := int(now.last - now.first + 1)
	if kept == 0 || kept == many {
		t.Fatalf("%d of %d messages are kept", kept, many)
	}
	if got := sequencesOf(receive(t, subscribe(t, b, "room", pointer(0)), kept)); !slices.Equal(got,
		sent[many-kept:]) {
		t.Errorf("got %d", got)
	}
}

func TestSlowSubscriberIsToldOfDiscardedMessages(t *testing.T) {
	t.Parallel()
	for name, flooded := range map[string]string{"by its own channel": "room",
		"by another channel": "another"} {
		t.Run(name, func(t *testing.T) { t.Parallel(); testDiscardedUnseen(t, flooded) })
	}
}

func testDiscardedUnseen(t *testing.T, flooded string) {
	// of the messages that are kept; without any, the announcement has no predecessor
	for _, missed := range []int{0, 1} {
		b := tiny(t)
		s := subscribe(t, b, "room", nil)
		publish(t, b, "room", "ann", "1", "")
		receive(t, s, 1)
		announcements(t, b, s.hub, false)
		publish(t, b, "room", "ann", "2", "never seen")
		publishMany(t, b, flooded, many, size)
		confirm(t, s.hub)
		for i := range missed {
			publish(t, b, "room", "ann", fmt.Sprint("missed", i), "")
		}
		announcements(t, b, s.hub, true)
		publish(t, b, "room", "ann", "4", "")
		if m, err := s.Next(testContext(t)); !errors.Is(err, ErrSequenceGone) {
			t.Errorf("%d missed: message %d after %d, error %v", missed, m.Sequence, m.Previous, err)
		}
	}
}

// confirm does what a poll does in a channel that has been quiet for a while.
func confirm(t *testing.T, h *hub) {
	t.Helper()
	now, err := h.broker.state(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	h.confirm(h.front, now, now)
}

func TestSlowSubscriberIsToldEvenIfNothingIsLeft(t *testing.T) {
	t.Parallel()
	b := tiny(t)
	s := subscribe(t, b, "room", nil)
	fromStart := subscribe(t, b, "room", pointer(0))
	announcements(t, b, s.hub, false)
	publish(t, b, "room", "ann", "1", "never seen")
	s.hub.observe(position{last: 1, through: 1, at: time.Now()})
	publishMany(t, b, "another", many, size)
	if m, err := s.Next(testContext(t)); !errors.Is(err, ErrSequenceGone) {
		t.Errorf("message %d, error %v", m.Sequence, err)
	}

	expectNone(t, fromStart)
	announcements(t, b, s.hub, true)
	publish(t, b, "room", "ann", "2", "seen")
	if m := receive(t, fromStart, 1)[0]; string(m.Body) != "seen" || m.Previous != 0 {
		t.Errorf("got %+v", m)
	}
}

func TestAttentiveSubscriberOfAQuietChannelStays(t *testing.T) {
	t.Parallel()
	const retention = 4 * time.Second
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), Retention: retention})
	s := subscribe(t, b, "room", nil)
	empty := subscribe(t, b, "empty", nil)
	last := publish(t, b, "room", "ann", "1", "").Sequence
	receive(t, s, 1)
	// The hubs poll by themselves, but not within such a short retention.
	eventually(t, "the last message is discarded", func() bool {
		b.pollHubs()
		publish(t, b, "another", "ann", time.Now().Format("150405-000000000"), "")
		now, err := b.state(testContext(t))
		return err == nil && now.first > last
	})
	publish(t, b, "room", "ann", "2", "")
	if m := receive(t, s, 1)[0]; m.Previous != last {
		t.Errorf("got %+v", m)
	}
	publish(t, b, "empty", "ann", "1", "")
	receive(t, empty, 1)
}

func TestReplayFromTheBeginningLeavesOutWhatWasDiscardedMeanwhile(t *testing.T) {
	t.Parallel()
	now := time.Now()
	batch := []Message{{Sequence: 1, Time: now}, {Sequence: 4, Previous: 1, Time: now},
		{Sequence: 7, Previous: 4, Time: now}}
	// With 5 being the first in the stream, 4 is certain to lead to 7, but 1 is not certain to lead to
	// 4.
	rest := fromBeginning(batch, state{first: 5, last: 9, retention: time.Hour})
	if len(rest) != 2 || rest[0].Sequence != 4 || rest[0].Previous != 0 || rest[1].Previous != 4 {
		t.Errorf("got %+v", rest)
	}
}
