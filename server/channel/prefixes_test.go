package channel

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/app/apptest"
)

// shopApart keeps about 1 MiB of channels below shop/.
const shopApart = `PREFIXES=[{"prefix": "shop/", "retention": "24h", "maxBytes": "1MiB"}]`

func TestAFloodBelowAPrefixLeavesTheHistoryOfOthers(t *testing.T) {
	ts := startLimited(t, shopApart)
	lobby := ts.join(t, "lobby", "alice", nil)
	first := lobby.say(t, "1", "one").GetSequence()
	second := lobby.say(t, "2", "two").GetSequence()
	shop := ts.join(t, "shop/sale", "mallory", nil)
	oldest := shop.say(t, "first", "").GetSequence()
	for i := range 40 {
		shop.say(t, fmt.Sprint(i), strings.Repeat("x", 60<<10))
	}
	if m := ts.join(t, "lobby", "bob", &first).message(t); m.GetSequence() != second ||
		m.GetPreviousSequence() != first || string(m.GetBody()) != "two" {
		t.Errorf("got %v", m)
	}
	_, err := ts.exchange(t, joinRequest("shop/sale", "bob", &oldest)).Recv()
	apptest.WantStatus(t, err, codes.OutOfRange, "SEQUENCE_GONE")
	ts.wantNumbers(t, map[string]float64{
		"channel_messages_total{kept}": 2, "channel_messages_total{shop/}{kept}": 41,
		"channels_open": 1, "channels_open{shop/}": 1, "backend_up{channel}": 1,
	})
}
