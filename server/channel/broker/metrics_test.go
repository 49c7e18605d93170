package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// openCounted opens a broker whose metrics are in a registry.
func openCounted(t *testing.T) (*Broker, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	return openBroker(t, embeddedURL, Options{Dir: t.TempDir(), Registerer: registry}), registry
}

// read returns the one metric of a family.
func read(t *testing.T, registry *prometheus.Registry, name string) *dto.Metric {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0]
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

func lagOf(t *testing.T, registry *prometheus.Registry) int {
	t.Helper()
	return int(read(t, registry, "channel_lag_messages").GetGauge().GetValue())
}

// hear receives one message that is said once the subscription waits for it.
func hear(t *testing.T, b *Broker, s *Subscription, id string) {
	t.Helper()
	heard := make(chan error)
	go func() {
		_, err := s.Next(testContext(t))
		heard <- err
	}()
	eventually(t, "the subscription waits", func() bool {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		return s.hub.changed != nil
	})
	publish(t, b, "room", "ann", id, "")
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
}

func TestDeliveryTimesAreThoseOfMessagesThatSomebodyWaitedFor(t *testing.T) {
	t.Parallel()
	b, registry := openCounted(t)
	observed := func() *dto.Histogram {
		return read(t, registry,
			"channel_delivery_seconds").GetHistogram()
	}
	publishMany(t, b, "room", 10, 1)

	late := subscribe(t, b, "room", pointer(0))
	receive(t, late, 10)
	if n := observed().GetSampleCount(); n != 0 {
		t.Errorf("%d of the messages that were replayed are in it", n)
	}
	hear(t, b, late, "a")
	hear(t, b, late, "b")
	if n := observed().GetSampleCount(); n != 2 {
		t.Errorf("%d observations of 2 messages", n)
	}
	// A subscriber that does not receive keeps its own messages waiting.
	for _, id := range []string{"c", "d", "e"} {
		publish(t, b, "room", "ann", id, "")
	}
	eventually(t, "all are announced", func() bool { return lagOf(t, registry) == 3 })
	receive(t, late, 3)
	if n := observed().GetSampleCount(); n != 2 {
		t.Errorf("%d observations, want 2 still", n)
	}
	if sum := observed().GetSampleSum(); sum <= 0 || sum > testTimeout.Seconds() {
		t.Errorf("they took %v s together", sum)
	}
	if n := read(t, registry, "channel_delivered_total").GetCounter().GetValue(); n != 15 {
		t.Errorf("%v were delivered, want 15", n)
	}
}

// The message may be kept between the join and the first call of Next.
func TestAParticipantWaitsFromItsJoinOn(t *testing.T) {
	t.Parallel()
	b, registry := openCounted(t)
	publishMany(t, b, "room", 3, 1)
	fromNow, fromLast := subscribe(t, b, "room", nil), subscribe(t, b, "room", pointer(3))
	publish(t, b, "room", "ann", "a", "")
	receive(t, fromNow, 1)
	receive(t, fromLast, 1)
	if n := read(t, registry, "channel_delivery_seconds").GetHistogram().GetSampleCount(); n != 2 {
		t.Errorf("%d observations of 2 deliveries", n)
	}
}

// The clock of the broker may be ahead of ours.
func TestADeliveryTakesNoNegativeTime(t *testing.T) {
	t.Parallel()
	b, registry := openCounted(t)
	b.metrics.handed(Message{Time: time.Now().Add(time.Hour)}, true)
	if h := read(t, registry, "channel_delivery_seconds").GetHistogram(); h.GetSampleCount() != 1 ||
		h.GetSampleSum() != 0 {
		t.Errorf("%d observations of %v s together", h.GetSampleCount(), h.GetSampleSum())
	}
}

// The ring holds fewer messages than these, and the stream hands them out in several batches, among
// those of others.
func TestLagIsExactWhereverTheMessagesAre(t *testing.T) {
	t.Parallel()
	b, registry := openCounted(t)
	s := subscribe(t, b, "room", nil)
	const n = 3 * ringMessages
	for i := range n {
		publish(t, b, "room", "ann", strconv.Itoa(i), string(make([]byte, 1000)))
		publish(t, b, "elsewhere", "ann", strconv.Itoa(i), "")
	}
	eventually(t, "it is behind by all", func() bool { return lagOf(t, registry) == n })
	for got := range n {
		receive(t, s, 1)
		if lag := lagOf(t, registry); lag != n-got-1 {
			t.Fatalf("behind by %d after %d of %d messages", lag, got+1, n)
		}
	}
	again := subscribe(t, b, "room", pointer(0))
	receive(t, again, 1)
	if lag := lagOf(t, registry); lag != n-1 {
		t.Errorf("the lag of a subscriber that begins again is %d, want %d", lag, n-1)
	}
	again.Close()
	if lag := lagOf(t, registry); lag != 0 {
		t.Errorf("behind by %d when he has gone", lag)
	}
}
