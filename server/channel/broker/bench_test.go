package broker

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const benchmarkBody = 256

// BenchmarkPublish publishes with and without the disk before each receipt.
func BenchmarkPublish(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, publishers := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("sync=%t/publishers=%d", sync, publishers), func(b *testing.B) {
				broker := openBroker(b, embeddedURL, Options{Dir: b.TempDir(), SyncAlways: sync})
				b.ReportAllocs()
				b.ResetTimer()
				publishAtOnce(b, broker, publishers)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

func publishAtOnce(b *testing.B, broker *Broker, publishers int) {
	var tasks sync.WaitGroup
	for p := range publishers {
		tasks.Go(func() { publishAll(b, broker, strconv.Itoa(p), (b.N+publishers-1)/publishers) })
	}
	tasks.Wait()
}

// BenchmarkFanout measures until the last of 100 subscribers has received each message.
func BenchmarkFanout(b *testing.B) {
	const subscribers = 100
	broker := openEmbedded(b)
	var tasks sync.WaitGroup
	for range subscribers {
		s := subscribe(b, broker, "room", nil)
		tasks.Go(func() { receiveAll(b, s, b.N) })
	}
	b.ReportAllocs()
	b.ResetTimer()
	publishAll(b, broker, "ann", b.N)
	tasks.Wait()
	b.ReportMetric(float64(b.N*subscribers)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkLatency measures from Publish to Next in another goroutine, one message at a time.
func BenchmarkLatency(b *testing.B) {
	broker := openEmbedded(b)
	s := subscribe(b, broker, "room", nil)
	b.ResetTimer()
	for i := range b.N {
		received := make(chan struct{})
		go func() { defer close(received); receiveAll(b, s, 1) }()
		publish(b, broker, "room", "ann", strconv.Itoa(i), "")
		<-received
	}
}

// BenchmarkReplay reads one channel of 100,000 messages, in between as many of another, from its
// beginning, in turns with an ordered consumer of JetStream that reads the same.
func BenchmarkReplay(b *testing.B) {
	const messages = 100_000
	broker := openEmbedded(b)
	var tasks sync.WaitGroup
	for p := range 16 {
		tasks.Go(func() {
			for i := range messages / 16 {
				m := Message{Participant: strconv.Itoa(p), ID: strconv.Itoa(i),
					Body: make([]byte, benchmarkBody)}
				for _, channel := range []string{"room", "another"} {
					if _, err := broker.Publish(b.Context(), channel, m); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	tasks.Wait()
	var ours, theirs []time.Duration
	for b.Loop() {
		begun := time.Now()
		s := subscribe(b, broker, "room", pointer(0))
		receiveAll(b, s, messages)
		s.Close()
		ours = append(ours, time.Since(begun))

		begun = time.Now()
		receiveOrdered(b, broker, "room", messages)
		theirs = append(theirs, time.Since(begun))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	median := len(ours) / 2
	b.ReportMetric(ours[median].Seconds(), "s")
	b.ReportMetric(float64(ours[median])/float64(theirs[median]), "ratio")
}

// receiveOrdered reads a channel from its beginning as JetStream would have it.
func receiveOrdered(b *testing.B, broker *Broker, channel string, n int) {
	consumer, err := broker.js.OrderedConsumer(b.Context(), broker.names.stream,
		jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{broker.names.subject + channel},
		})
	if err != nil {
		b.Fatal(err)
	}
	raw, err := consumer.Messages()
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Stop()
	for range n {
		if _, err := raw.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func publishAll(b *testing.B, broker *Broker, participant string, n int) {
	for i := range n {
		m := Message{Participant: participant, ID: strconv.Itoa(i), Body: make([]byte, benchmarkBody)}
		if _, err := broker.Publish(b.Context(), "room", m); err != nil {
			b.Error(err)
			return
		}
	}
}

func receiveAll(b *testing.B, s *Subscription, n int) {
	for range n {
		if _, err := s.Next(b.Context()); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkLatencyOnTwoReplicas measures from Publish at one replica to Next at another, in turns
// with what JetStream takes for itself: from a publication by one client to an ordered consumer of
// another.
func BenchmarkLatencyOnTwoReplicas(b *testing.B) {
	url := serverURL(startServer(b, b.TempDir(), -1))
	here, there := openBroker(b, url, Options{}), openBroker(b, url, Options{})
	s := subscribe(b, there, "room", nil)
	consumer, err := there.js.OrderedConsumer(b.Context(), there.names.stream,
		jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{there.names.subject + "raw"}, DeliverPolicy: jetstream.DeliverNewPolicy,
		})
	if err != nil {
		b.Fatal(err)
	}
	raw, err := consumer.Messages()
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Stop()
	var ours, theirs []time.Duration
	for i := range b.N {
		var publishing sync.WaitGroup
		begun := time.Now()
		publishing.Go(func() { publish(b, here, "room", "ann", strconv.Itoa(i), "") })
		receiveAll(b, s, 1)
		ours = append(ours, time.Since(begun))
		publishing.Wait()

		begun = time.Now()
		publishing.Go(func() {
			if _, err := here.js.Publish(b.Context(), here.names.subject+"raw", nil); err != nil {
				b.Error(err)
			}
		})
		if _, err := raw.Next(); err != nil {
			b.Fatal(err)
		}
		theirs = append(theirs, time.Since(begun))
		publishing.Wait()
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	for name, at := range map[string]int{"p50": b.N / 2, "p99": b.N * 99 / 100} {
		b.ReportMetric(float64(ours[at].Microseconds()), name+"-µs")
		b.ReportMetric(float64(ours[at])/float64(theirs[at]), name+"-ratio")
	}
}
