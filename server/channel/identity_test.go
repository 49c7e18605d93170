package channel

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

const (
	alice   = "spiffe://example.com/alice"
	mallory = "spiffe://example.com/mallory"
)

// owned is a server whose callers each have channels and names of participants.
type owned struct {
	*testServer
	authority   *apptest.Authority
	permissions string
}

func startOwned(t *testing.T) *owned {
	t.Helper()
	o := &owned{
		authority: apptest.NewAuthority(t), permissions: filepath.Join(t.TempDir(), "permissions.json"),
	}
	o.permit(t, "shop/*", "alice")
	o.testServer = &testServer{Server: apptest.Start(t, telemetry.Discard(), []app.Service{Service()},
		append(o.authority.Settings(t), "TEST_CHANNEL_DIR="+t.TempDir(),
			"TEST_RPC_PERMISSIONS_FILE="+o.permissions)...)}
	return o
}

// permit lets alice into channels under a name. Mallory may be in the channels of the shop under
// its own name, and in its own channels under any.
func (o *owned) permit(t *testing.T, channel, participant string) {
	t.Helper()
	rule := func(caller string, names map[string][]string) apptest.Rule {
		return apptest.Rule{Callers: []string{"uri:" + caller},
			Methods: []string{"quartet.v1.ChannelService/*"}, Names: names}
	}
	apptest.Permit(t, o.permissions,
		rule(alice, map[string][]string{"channel": {channel}, "participant": {participant}}),
		rule(mallory, map[string][]string{"channel": {"shop/*"}, "participant": {"mallory"}}),
		rule(mallory, map[string][]string{"channel": {"mallory/*"}}))
}

func (o *owned) as(t *testing.T, caller string) *testServer {
	t.Helper()
	return &testServer{o.Server,
		quartetv1.NewChannelServiceClient(o.authority.Dial(t, o.Address, caller))}
}

func TestChannelsAndNamesOfParticipantsBelongToCallers(t *testing.T) {
	o := startOwned(t)
	kept := o.as(t, alice).join(t, "shop/kept", "alice", nil).say(t, "m-1", "hello")
	for _, c := range []struct{ caller, channel, participant, denied string }{
		{alice, "shop/kept", "alice", ""},
		{alice, "shop/new", "alice", ""},
		{alice, "shop/kept", "mallory", "this channel and this participant"},
		{alice, "shop/kept", "alice2", "this channel and this participant"},
		{alice, "shop", "alice", "this channel"},
		{alice, "shopping/new", "alice", "this channel"},
		{mallory, "shop/kept", "mallory", ""},
		// Either is in a rule of this caller, and both are in none.
		{mallory, "shop/kept", "alice", "this channel and this participant"},
		{mallory, "shop/new", "alice", "this channel and this participant"},
		{mallory, "mallory/new", "alice", ""},
		{mallory, "other", "mallory", "this channel"},
	} {
		stream := o.as(t, c.caller).exchange(t, joinRequest(c.channel, c.participant, nil))
		reply, err := stream.Recv()
		if c.denied == "" {
			if err != nil || !reply.HasJoined() {
				t.Errorf("%+v: %v, %v", c, reply, err)
			}
			continue
		}
		apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
		want := "not permitted: no rule allows /quartet.v1.ChannelService/Exchange with " + c.denied +
			" to a caller with the names [uri:" + c.caller + "]"
		if got := status.Convert(err).Message(); got != want {
			t.Errorf("%+v: it is told %q, expected %q", c, got, want)
		}
	}
	if last := o.as(t, alice).join(t, "shop/kept", "alice", nil).joined.GetLastSequence(); last !=
		kept.GetSequence() {
		t.Errorf("the channel stands at %d and not at %d", last, kept.GetSequence())
	}
}

// TestAConversationEndsWhenItsNamesAreWithdrawn withdraws the channel, and the name under which
// alice is there, each while another conversation goes on.
func TestAConversationEndsWhenItsNamesAreWithdrawn(t *testing.T) {
	o := startOwned(t)
	other := o.as(t, mallory).join(t, "shop/room", "mallory", nil)
	for id, names := range map[string][2]string{
		"channel":     {"other/*", "alice"},
		"participant": {"shop/*", "bob"},
	} {
		var p *testParticipant
		apptest.Eventually(t, func() bool {
			p = o.as(t, alice).exchange(t, joinRequest("shop/room", "alice", nil))
			_, err := p.Recv()
			return err == nil
		}, func() string { return "alice may not join" })
		p.say(t, "m-1", "hello")
		began := time.Now()
		o.permit(t, names[0], names[1])
		_, err := p.Recv()
		for err == nil {
			_, err = p.Recv()
		}
		apptest.WantStatus(t, err, codes.PermissionDenied, "NOT_PERMITTED")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("without the %s it ends after %s", id, took)
		}
		other.say(t, id, "still here")
		o.permit(t, "shop/*", "alice")
	}
}
