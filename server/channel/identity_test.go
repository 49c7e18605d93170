package channel

import (
	"testing"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// TestAnotherClientCannotUseUpAMessageID has a stranger join under the name of another participant
// and publish what would be that one's next message id.
func TestAnotherClientCannotUseUpAMessageID(t *testing.T) {
	authority := apptest.NewAuthority(t)
	settings := append(authority.Settings(t), "TEST_CHANNEL_DIR="+t.TempDir())
	s := apptest.Start(t, telemetry.Discard(), []app.Service{Service()}, settings...)
	as := func(uri string) *testParticipant {
		ts := &testServer{s, quartetv1.NewChannelServiceClient(authority.Dial(t, s.Address, uri))}
		return ts.join(t, "room", "alice", nil)
	}
	mallory, alice := as("spiffe://example.com/mallory"), as("spiffe://example.com/alice")
	guessed := mallory.say(t, "m-2", "not what alice says")
	receipt := alice.say(t, "m-2", "what alice says")
	if receipt.GetDuplicate() || receipt.GetSequence() == guessed.GetSequence() {
		t.Errorf("alice's message is taken for a repeated one: %v after %v", receipt, guessed)
	}
	for _, want := range []string{"not what alice says", "what alice says"} {
		if got := string(mallory.message(t).GetBody()); got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
	// On another connection, as after it was lost, the client is the same one.
	again := as("spiffe://example.com/alice").say(t, "m-2", "what alice says")
	if !again.GetDuplicate() || again.GetSequence() != receipt.GetSequence() {
		t.Errorf("a repeated message is kept twice: %v after %v", again, receipt)
	}
}
