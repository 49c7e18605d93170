package channel_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

// openPanel serves a console in front of a server, with this service's panel, and returns where.
func openPanel(t *testing.T, server string, environ ...string) string {
	t.Helper()
	return openPanelWith(t, clienttest.FastRetries(), server, environ...)
}

// openPanelWith has the panel resume conversations as resumption says.
func openPanelWith(
	t *testing.T, resumption rpc.Resumption, server string, environ ...string,
) string {
	t.Helper()
	tele, peers := telemetry.Discard(), console.NewPeers()
	var cfg struct {
		RPC     rpc.ClientConfig `envPrefix:"RPC_"`
		Console console.Config   `envPrefix:"CONSOLE_"`
	}
	if err := config.Load("TEST_", environ, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	services := channel.Service().Descriptors
	conn, err := rpc.NewClient(cfg.RPC, tele, server, services, grpc.WithStatsHandler(peers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	panel, err := channel.Service().Panel(cli.Connection{
		Conn: conn, Telemetry: tele, Resumption: resumption,
	})
	if err != nil {
		t.Fatal(err)
	}
	panel.Name = "channel"
	address := clienttest.ServeConsole(t, console.Options{
		Config: cfg.Console, Product: "test", Telemetry: telemetry.Discard(), Peers: peers,
		Panels: []console.Panel{panel},
	})
	return "ws://" + address + "/panels/channel/api/join"
}

// pageEvent is what a page is told.
type pageEvent struct {
	Type, Text, Participant, Peer, ID, Code, Reason string
	Sequence                                        uint64
	Previous                                        uint64 `json:"previous_sequence"`
	Position                                        json.RawMessage
}

type participant struct {
	*websocket.Conn
	t        *testing.T
	attempts int
	position json.RawMessage
	skipped  []pageEvent
}

func joinPage(t *testing.T, at string, query url.Values) *participant {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), at+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(response, err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &participant{Conn: conn, t: t}
}

func (p *participant) say(frame string) {
	p.t.Helper()
	if err := p.Write(p.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next event of a type. A receipt may come before or after the message itself, so
// events of other types are kept for later.
func (p *participant) next(kind string) pageEvent {
	p.t.Helper()
	for i, e := range p.skipped {
		if e.Type == kind {
			p.skipped = slices.Delete(p.skipped, i, i+1)
			return e
		}
	}
	for {
		_, text, err := p.Read(clienttest.Deadline(p.t))
		if err != nil {
			p.t.Fatal(err)
		}
		var e pageEvent
		if err := json.Unmarshal(text, &e); err != nil {
			p.t.Fatal(err)
		}
		if e.Type == "attempt" {
			p.attempts++
		}
		if e.Position != nil {
			p.position = e.Position
		}
		if e.Type == kind {
			return e
		}
		if e.Type == "end" {
			p.t.Fatalf("it ended: %+v", e)
		}
		p.skipped = append(p.skipped, e)
	}
}

func as(name string) url.Values {
	return url.Values{"channel": {"c"}, "participant": {name}, "after": {"0"}}
}

func TestPagesTalkWithoutAGapOverARestartOfTheServer(t *testing.T) {
	server := processtest.Start(t)
	at := openPanel(t, server.Address)
	ann, bob := joinPage(t, at, as("ann")), joinPage(t, at, as("bob"))
	ann.next("joined")
	bob.next("joined")
	last := uint64(0)
	both := func(text string) {
		t.Helper()
		first, second := ann.next("message"), bob.next("message")
		if first.Text != text || second.Text != text || first.Sequence != second.Sequence {
			t.Fatalf("got %+v and %+v", first, second)
		}
		if first.Previous != last {
			t.Errorf("%d follows %d, not %d", first.Sequence, first.Previous, last)
		}
		last = first.Sequence
	}
	ann.say(`{"id": "1", "text": "one"}`)
	both("one")
	if e := ann.next("receipt"); e.ID != "1" || e.Sequence != last {
		t.Errorf("%+v", e)
	}
	server.Kill()
	ann.say(`{"id": "2", "text": "two"}`)
	server.Restart()
	both("two")
	if ann.attempts < 2 || bob.attempts < 2 {
		t.Errorf("the pages saw %d and %d streams", ann.attempts, bob.attempts)
	}
	bob.say(`{"id": "3", "text": "three"}`)
	both("three")
	t.Run("and a page that is loaded again goes on where it was", func(t *testing.T) {
		if err := bob.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Fatal(err)
		}
		ann.say(`{"id": "4", "text": "four"}`)
		ann.next("message")
		query := as("bob")
		query.Del("after")
		query.Set("position", string(bob.position))
		again := joinPage(t, at, query)
		if e := again.next("message"); e.Text != "four" || e.Previous != last {
			t.Errorf("%+v", e)
		}
	})
}

func TestPagesThatAskForWhatCannotBe(t *testing.T) {
	at := openPanel(t, processtest.Start(t).Address)
	for what, query := range map[string]string{
		"no channel": "participant=x", "no participant": "channel=x", "no sequence": "channel=x&participant=x&after=-1",
		"no position": "channel=x&participant=x&position={",
	} {
		_, response, err := websocket.Dial(t.Context(), at+"?"+query, nil)
		if err == nil || response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v", what, response)
		}
	}
	long := joinPage(t, at, as(strings.Repeat("n", 129)))
	if e := long.next("end"); e.Code != "InvalidArgument" {
		t.Errorf("a name that is too long: %+v", e)
	}
	p := joinPage(t, at, as("ann"))
	p.say(`{"id": "1", "text": "` + strings.Repeat("x", 64<<10+1) + `"}`)
	if e := p.next("refused"); e.ID != "1" || !strings.Contains(e.Reason, "64") {
		t.Errorf("too large: %+v", e)
	}
	p.say(`{"id": "2", "text": "fits"}`)
	if e := p.next("receipt"); e.ID != "2" {
		t.Errorf("%+v", e)
	}
	p.say(`nonsense`)
	if e := p.next("end"); e.Code != "InvalidArgument" {
		t.Errorf("nonsense: %+v", e)
	}
	_, response, err := websocket.Dial(t.Context(), at+"?"+as("x").Encode(), &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a page elsewhere: %v", response)
	}
}

func TestATokenForReadingCannotJoin(t *testing.T) {
	at := openPanel(t, "localhost:1", "TEST_CONSOLE_TOKEN=all", "TEST_CONSOLE_READ_TOKEN=look")
	for token, want := range map[string]int{"": 401, "look": 403} {
		header := http.Header{}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
		_, response, err := websocket.Dial(
			t.Context(),
			at+"?"+as("x").Encode(),
			&websocket.DialOptions{HTTPHeader: header},
		)
		if err == nil || response.StatusCode != want {
			t.Errorf("%q: %v", token, response)
		}
	}
}

// A page joins again after an outage, as long as the last event does not say that it is for good.
func TestAConversationThatIsGivenUpIsUnavailable(t *testing.T) {
	for name, test := range map[string]struct {
		resumption rpc.Resumption
		exchange   func(exchangeServer) error
	}{
		"a server that hangs": {clienttest.CutSoon(), func(s exchangeServer) error {
			<-s.Context().Done()
			return s.Context().Err()
		}},
		"streams that end early": {clienttest.FewRetries(), func(exchangeServer) error { return nil }},
		"a server that is away": {clienttest.FewRetries(), func(exchangeServer) error {
			return status.Error(codes.Unavailable, "away")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := clienttest.Serve(t, "", func(r grpc.ServiceRegistrar) {
				quartetv1.RegisterChannelServiceServer(r, &faulty{exchange: test.exchange})
			})
			p := joinPage(t, openPanelWith(t, test.resumption, address), as("ann"))
			if e := p.next("end"); e.Code != codes.Unavailable.String() || e.Reason == "" {
				t.Errorf("%+v", e)
			}
		})
	}
}
