package broker

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
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

// BenchmarkReplay reads one channel of 100,000 messages, in between as many of another, from its beginning.
func BenchmarkReplay(b *testing.B) {
	const messages = 100_000
	broker := openEmbedded(b)
	var tasks sync.WaitGroup
	for p := range 16 {
		tasks.Go(func() {
			for i := range messages / 16 {
				m := Message{Participant: strconv.Itoa(p), ID: strconv.Itoa(i), Body: make([]byte, benchmarkBody)}
				for _, channel := range []string{"room", "another"} {
					if _, err := broker.Publish(b.Context(), channel, m); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	tasks.Wait()
	b.ReportAllocs()
	for b.Loop() {
		s := subscribe(b, broker, "room", pointer(0))
		receiveAll(b, s, messages)
		s.Close()
	}
	b.ReportMetric(float64(b.N*messages)/b.Elapsed().Seconds(), "messages/s")
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
