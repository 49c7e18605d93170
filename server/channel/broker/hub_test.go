package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestStalledSubscriberSlowsNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	stalled, brisk := subscribe(t, b, "room", nil), subscribe(t, b, "room", nil)
	const n, size = 600, 16 << 10
	var sent []uint64
	var task sync.WaitGroup
	task.Go(func() { sent = publishMany(t, b, "room", n, size) })
	receive(t, brisk, n)
	task.Wait()

	h := stalled.hub
	h.mu.Lock()
	messages, held, bytes := len(h.ring), 0, h.bytes
	for _, m := range h.ring[:cap(h.ring)] { // evicted messages must not live on behind the ring
		held += len(m.Body)
	}
	h.mu.Unlock()
	if messages > ringMessages || bytes > ringBytes || held > ringBytes {
		t.Errorf("the ring holds %d messages, %d bytes, %d in bodies", messages, bytes, held)
	}
	if got := sequencesOf(receive(t, stalled, n)); !slices.Equal(got, sent) {
		t.Error("the stalled subscriber got something else than was sent")
	}
}

func TestLostAnnouncementsAreReadFromTheStream(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	publish(t, b, "room", "ann", "1", "")
	receive(t, s, 1)

	announcements(t, b, s.hub, false)
	publish(t, b, "room", "ann", "2", "")
	publish(t, b, "room", "ann", "3", "")
	expectNone(t, s)
	b.pollHubs() // which happens by itself after some seconds
	receive(t, s, 2)

	publish(t, b, "room", "ann", "4", "")
	announcements(t, b, s.hub, true)
	publish(t, b, "room", "ann", "5", "")
	receive(t, s, 2)
}

// announcements connects a hub to the stream's announcements or cuts it off.
func announcements(t *testing.T, b *Broker, h *hub, on bool) {
	t.Helper()
	err := h.live.Unsubscribe()
	if on {
		h.live, err = b.nc.ChanSubscribe(b.names.live+escape(h.channel), b.announcements)
	}
	if err := errors.Join(err, b.nc.Flush()); err != nil {
		t.Fatal(err)
	}
}

func TestHubEndsWithItsLastSubscriberAndStartsAgain(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	open := func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.hubs) }
	first, second := subscribe(t, b, "room", nil), subscribe(t, b, "room", nil)
	if open() != 1 || b.nc.NumSubscriptions() == 0 {
		t.Errorf("%d hubs for one channel", open())
	}
	first.Close()
	first.Close()
	if open() != 1 {
		t.Error("the hub ended before its last subscriber left")
	}
	second.Close()
	if open() != 0 {
		t.Error("the hub outlives its last subscriber")
	}
	publish(t, b, "room", "ann", "1", "")
	receive(t, subscribe(t, b, "room", pointer(0)), 1)
}

func TestSubscribersComeAndGoWhileOthersPublish(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	const n, readers = 300, 4
	var tasks sync.WaitGroup
	tasks.Go(func() { publishMany(t, b, "room", n, 10) })
	for range readers {
		tasks.Go(func() { // each message with a subscription of its own
			for seen, last := 0, uint64(0); seen < n; seen++ {
				s, err := b.Subscribe(testContext(t), "room", startAfter(&last))
				if err != nil {
					t.Error(err)
					return
				}
				m, err := s.Next(testContext(t))
				s.Close()
				if err != nil || m.Previous != last {
					t.Errorf("after %d: %d follows %d, %v", last, m.Sequence, m.Previous, err)
					return
				}
				last = m.Sequence
			}
		})
	}
	tasks.Wait()
}

func TestTooManyChannelsAreRefused(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), MaxChannels: 2})
	first := subscribe(t, b, "1", nil)
	subscribe(t, b, "2", nil)
	subscribe(t, b, "2", nil)
	if _, err := b.Subscribe(testContext(t), "3", startAfter(nil)); !errors.Is(err,
		ErrTooManyChannels) {
		t.Error(err)
	}
	first.Close()
	subscribe(t, b, "3", nil)
}

func TestCloseWakesNextAndEndsPublish(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	waiting, idle := subscribe(t, b, "room", nil), subscribe(t, b, "room", nil)
	woken := make(chan error)
	go func() {
		_, err := waiting.Next(testContext(t))
		woken <- err
	}()
	closeBroker(t, b)
	if err := <-woken; !errors.Is(err, ErrClosed) {
		t.Errorf("Next: %v", err)
	}
	started := time.Now()
	_, next := idle.Next(testContext(t))
	_, publish := b.Publish(testContext(t), "room", Message{Participant: "ann", ID: "1"})
	_, subscribe := b.Subscribe(testContext(t), "room", startAfter(nil))
	_, last := b.LastSequence(testContext(t), "room")
	for i, err := range []error{next, publish, subscribe, last, b.Check(testContext(t))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if took := time.Since(started); took > publishTimeout-2*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestSubscriptionCloseWakesItsNext(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	woken := make(chan error)
	go func() {
		_, err := s.Next(testContext(t))
		woken <- err
	}()
	s.Close()
	if err := <-woken; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestContextEndsNextAndPublishWithItsOwnError(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
	if _, err := b.Publish(ctx, "room", Message{Participant: "ann", ID: "1"}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("Publish: %v", err)
	}
}
