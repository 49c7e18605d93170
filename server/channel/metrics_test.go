package channel

import (
	"fmt"
	"strings"
	"testing"

	"example.com/quartet/internal/app/apptest"
)

func TestEverySeriesIsThereBeforeTheFirstCall(t *testing.T) {
	startServer(t, t.TempDir()).wantNumbers(t, map[string]float64{
		"channel_messages_total{kept}": 0, "channel_messages_total{duplicate}": 0,
		"channel_delivered_total": 0, "channel_delivery_seconds": 0,
		"channel_participants": 0, "channels_open": 0, "channel_lag_messages": 0,
		"backend_up{channel}": 1,
	})
}

func TestMessagesAndParticipantsAreCounted(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice, bob := ts.join(t, "room", "alice", nil), ts.join(t, "room", "bob", nil)
	ts.join(t, "elsewhere", "carol", nil)
	ts.wantNumbers(t, map[string]float64{"channel_participants": 3, "channels_open": 2})
	alice.say(t, "1", "hello")
	alice.say(t, "1", "hello")
	bob.message(t)
	ts.wantNumbers(t, map[string]float64{
		"channel_messages_total{kept}": 1, "channel_messages_total{duplicate}": 1,
		"channel_delivered_total":  2,
		"channel_delivery_seconds": 2, "channel_lag_messages": 0,
	})
	if err := bob.CloseSend(); err != nil {
		t.Fatal(err)
	}
	ts.wantNumbers(t, map[string]float64{"channel_participants": 2, "channels_open": 2})
}

func TestAParticipantThatDoesNotReadLagsUntilItDoes(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice, idle := ts.join(t, "room", "alice", nil), ts.join(t, "room", "idle", nil)
	const count = 30 // More than what the connection buffers, of 32 KiB each.
	for n := range count {
		alice.say(t, fmt.Sprint(n), strings.Repeat("x", 32<<10))
	}
	apptest.Eventually(t,
		func() bool { return apptest.Numbers(t, ts.Telemetry)["channel_lag_messages"] > count/2 },
		func() string {
			return fmt.Sprintf("behind by %v of %d messages",
				apptest.Numbers(t, ts.Telemetry)["channel_lag_messages"], count)
		})
	for range count {
		idle.message(t)
		if len(alice.early) == 0 {
			alice.early = append(alice.early, alice.message(t))
		}
		alice.message(t)
	}
	ts.wantNumbers(t,
		map[string]float64{"channel_lag_messages": 0, "channel_delivered_total": 2 * count})
}
