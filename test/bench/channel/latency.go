package channel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/quartet/test/bench/measure"
)

// bodyBytes is the size of every message.
const bodyBytes = 256

// Sample is how long messages, or calls, of a slice took.
type Sample struct{ P50, P99 time.Duration }

func sampleOf(times []time.Duration) Sample {
	slices.Sort(times)
	return Sample{measure.Quantile(times, 0.50), measure.Quantile(times, 0.99)}
}

type (
	results = measure.Results[Sample]
	metric  = measure.Metric[Sample]
)

var (
	p50 = metric{Name: "p50", Of: func(s Sample) float64 { return s.P50.Seconds() }}
	p99 = metric{Name: "p99", Of: func(s Sample) float64 { return s.P99.Seconds() }}
)

// contestant is one way for a message, or a call, to go. once says how long it took.
type contestant struct {
	name string
	once func(ctx context.Context) (time.Duration, error)
}

// slice has a contestant go several times, one after another.
func (c contestant) slice(ctx context.Context, count int) (Sample, error) {
	times := make([]time.Duration, count)
	for i := range times {
		var err error
		if times[i], err = c.once(ctx); err != nil {
			return Sample{}, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return sampleOf(times), nil
}

// arrival is the time from the begin of send to the end of the last of receive. It waits for the
// end of send too, which may come later: it has the receipt.
func arrival(send func() error, receive ...func() error) (time.Duration, error) {
	failed := make([]error, len(receive)+1)
	var receiving, sending sync.WaitGroup
	for i, r := range receive {
		receiving.Go(func() { failed[i] = r() })
	}
	begun := time.Now()
	sending.Go(func() { failed[len(receive)] = send() })
	receiving.Wait()
	took := time.Since(begun)
	sending.Wait()
	return took, errors.Join(failed...)
}

// newRaw is a message of JetStream alone: one client publishes it, and an ordered consumer of
// another one delivers it. The clients' connections are closed by the caller, also after an error.
func newRaw(ctx context.Context, url string) (c contestant, conns []*nats.Conn, err error) {
	var streams [2]jetstream.JetStream
	for i := range streams {
		conn, err := nats.Connect(url)
		if err != nil {
			return c, conns, err
		}
		conns = append(conns, conn)
		if streams[i], err = jetstream.New(conn); err != nil {
			return c, conns, err
		}
	}
	const stream, subject = "RAW", "raw.room"
	config := jetstream.StreamConfig{Name: stream, Subjects: []string{"raw.*"}}
	if _, err := streams[0].CreateStream(ctx, config); err != nil {
		return c, conns, err
	}
	consumer, err := streams[1].OrderedConsumer(ctx, stream,
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return c, conns, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return c, conns, err
	}
	body := make([]byte, bodyBytes)
	once := func(ctx context.Context) (time.Duration, error) {
		return arrival(func() error {
			_, err := streams[0].Publish(ctx, subject, body)
			return err
		}, func() error {
			_, err := messages.Next(jetstream.NextContext(ctx))
			return err
		})
	}
	return contestant{rawName, once}, conns, nil
}

// member is a participant of a channel, of ours or of a bare one.
type member struct {
	send    func(ctx context.Context, body []byte) error // until it has the receipt
	receive func(ctx context.Context) error
	leave   func()
}

// newMessage is a message in a channel: the first member sends it, and it has arrived when all
// others have received it.
func newMessage(name string, members []member) contestant {
	body := make([]byte, bodyBytes)
	return contestant{name, func(ctx context.Context) (time.Duration, error) {
		var receive []func() error
		for _, m := range members[1:] {
			receive = append(receive, func() error { return m.receive(ctx) })
		}
		return arrival(func() error {
			received := make(chan error, 1)
			go func() { received <- members[0].receive(ctx) }() // The sender is a participant too.
			err := members[0].send(ctx, body)
			return errors.Join(err, <-received)
		}, receive...)
	}}
}

// newCall is a unary call, that of the health of a server.
func newCall(name string, conn *grpc.ClientConn) contestant {
	health := healthv1.NewHealthClient(conn)
	return contestant{name, func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		_, err := health.Check(ctx, &healthv1.HealthCheckRequest{})
		return time.Since(begun), err
	}}
}
