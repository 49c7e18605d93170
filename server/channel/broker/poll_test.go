package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// openChannels subscribes to many channels that are silent.
func openChannels(t *testing.T, b *Broker, n int) []*Subscription {
	t.Helper()
	subscriptions := make([]*Subscription, n)
	var tasks sync.WaitGroup
	for i := range 8 {
		tasks.Go(func() {
			for n := i; n < len(subscriptions); n += 8 {
				s, err := b.Subscribe(t.Context(), fmt.Sprint("silent ", n), Start{})
				if err != nil {
					t.Error(err)
					return
				}
				subscriptions[n] = s
			}
		})
	}
	tasks.Wait()
	t.Cleanup(func() {
		for _, s := range subscriptions {
			if s != nil {
				s.Close()
			}
		}
	})
	return subscriptions
}

func TestSilentChannelsCostFewRequestsAndGapsAreFoundInFiveSeconds(t *testing.T) {
	t.Parallel()
	channels := 10_000
	if testing.Short() {
		channels = 1200 // More than one request may ask for.
	}
	srv := startServer(t, t.TempDir(), -1)
	b, there := openBroker(t, serverURL(srv), Options{MaxChannels: channels + 1}), openBroker(t,
		serverURL(srv), Options{})
	silent := openChannels(t, b, channels)
	if t.Failed() {
		return
	}
	// The stream goes on meanwhile, in another channel.
	ctx, stop := context.WithCancel(t.Context())
	var talking sync.WaitGroup
	talking.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			publish(t, there, "busy", "ann", fmt.Sprint(i), "")
			time.Sleep(100 * time.Millisecond)
		}
	})
	defer talking.Wait()
	defer stop()
	before, begun := b.nc.Stats().OutMsgs, time.Now()
	time.Sleep(3 * pollInterval)
	rate := float64(b.nc.Stats().OutMsgs-before) / time.Since(begun).Seconds()
	if rate > 50 {
		t.Errorf("%.1f requests a second for %d silent channels", rate, channels)
	}
	t.Logf("%.1f requests a second for %d silent channels", rate, channels)

	missed := silent[channels/2]
	announcements(t, b, missed.hub, false)
	begun = time.Now()
	publish(t, there, missed.hub.channel, "ann", "1", "missed")
	receive(t, missed, 1)
	// It is found by the second poll at the latest. The rest is for a machine with much else to do.
	if took := time.Since(begun); 2*pollInterval >= 5*time.Second || took > 15*time.Second {
		t.Errorf("the gap was found after %v, with a poll each %v", took, pollInterval)
	}
}

func TestASilentStreamCostsOneRequestForAllChannels(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	openChannels(t, b, 100)
	if err := b.poll(testContext(t), false); err != nil {
		t.Fatal(err)
	}
	before := b.nc.Stats().OutMsgs
	if err := b.poll(testContext(t), false); err != nil {
		t.Fatal(err)
	}
	// The one in the background may come in between.
	if sent := b.nc.Stats().OutMsgs - before; sent > 2 {
		t.Errorf("%d requests", sent)
	}
}
