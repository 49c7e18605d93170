package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what a Broker counts. All are there from the start: a counter that appears with its
// first event hides that one from rate().
type metrics struct {
	// kept and duplicate are the two results of channel_messages_total.
	kept, duplicate, delivered prometheus.Counter
	deliverySeconds            prometheus.Observer
}

// newMetrics registers nothing if the broker has no registry. The gauges ask the broker when they
// are scraped, which takes a few nanoseconds for each subscription.
func newMetrics(b *Broker) *metrics {
	register := promauto.With(b.opts.Registerer)
	gauge := func(name, help string, value func() int64) {
		register.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value()) })
	}
	gauge("channel_participants", "Participants connected to this process.", b.participants)
	gauge("channels_open", "Channels with participants in this process.", b.channelsOpen)
	gauge("channel_lag_messages", "Messages that the participant furthest behind has still to get.",
		b.lag)
	register.NewCounterFunc(prometheus.CounterOpts{
		Name: "channel_history_changes_total",
		Help: "Times that the stream had another history than before, because it was created anew or had lost messages.",
	}, func() float64 { return float64(b.lineage.changes.Load()) })
	gauge("channel_history_changed_timestamp_seconds",
		"When the stream was last found to have another history than before, in seconds since 1970; 0 if never.",
		b.lineage.changed.Load)
	gauge("channel_damaged_messages", "Messages that are missing inside the stream.", b.damage.count)
	said := register.NewCounterVec(prometheus.CounterOpts{
		Name: "channel_messages_total", Help: "Messages said, by what became of them.",
	}, []string{"result"})
	return &metrics{
		kept:      said.WithLabelValues("kept"),
		duplicate: said.WithLabelValues("duplicate"),
		delivered: register.NewCounter(prometheus.CounterOpts{
			Name: "channel_delivered_total", Help: "Messages handed to participants.",
		}),
		deliverySeconds: register.NewHistogram(prometheus.HistogramOpts{
			Name: "channel_delivery_seconds",
			Help: "Time from the moment a message was kept to the moment it is handed to a participant that waits for it.",
			// The alert QuartetChannelDelivery needs a bound at 0.5.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5,
				1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
}

// said counts a receipt.
func (m *metrics) said(r Receipt) {
	if r.Duplicate {
		m.duplicate.Inc()
	} else {
		m.kept.Inc()
	}
}

// handed counts a message that goes to a participant, and observes how long it took if the
// participant waited for it: how long a slow or late participant takes says nothing about delivery.
// The message's time is by the broker's clock, which may be another node's and ahead of ours, hence
// max.
func (m *metrics) handed(message Message, waitedFor bool) {
	m.delivered.Inc()
	if waitedFor {
		m.deliverySeconds.Observe(max(0, time.Since(message.Time).Seconds()))
	}
}

// participants is how many subscriptions are open.
func (b *Broker) participants() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.subscriptions))
}

// channelsOpen is how many channels have subscriptions. poll does nothing while there are none.
func (b *Broker) channelsOpen() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.hubs))
}

// lag is how many messages the subscription furthest behind has still to return.
func (b *Broker) lag() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var most int64
	for s := range b.subscriptions {
		most = max(most, s.hub.known.Load()-s.had.Load())
	}
	return most
}
