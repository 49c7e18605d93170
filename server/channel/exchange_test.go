package channel

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// testParticipant is one end of an exchange, without any of the client's comforts.
type testParticipant struct {
	grpc.BidiStreamingClient[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]
	joined *quartetv1.Joined
	// messages that came while something else was waited for.
	early []*quartetv1.ChannelMessage
}

func joinRequest(channel, participant string, after *uint64) *quartetv1.ExchangeRequest {
	return quartetv1.ExchangeRequest_builder{Join: quartetv1.Join_builder{
		Channel: channel, Participant: participant, AfterSequence: after,
	}.Build()}.Build()
}

func sendRequest(id, body string) *quartetv1.ExchangeRequest {
	return quartetv1.ExchangeRequest_builder{Message: quartetv1.SendMessage_builder{MessageId: id,
		Body: []byte(body)}.Build()}.Build()
}

// exchange opens a stream and sends messages over it.
func (ts *testServer) exchange(t *testing.T,
	messages ...*quartetv1.ExchangeRequest) *testParticipant {
	t.Helper()
	stream, err := ts.channels.Exchange(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // The answer says why.
		}
	}
	return &testParticipant{BidiStreamingClient: stream}
}

func (ts *testServer) join(t *testing.T, channel, participant string,
	after *uint64) *testParticipant {
	t.Helper()
	p := ts.exchange(t, joinRequest(channel, participant, after))
	reply, err := p.Recv()
	if err != nil || !reply.HasJoined() {
		t.Fatalf("joined with %v, %v", reply, err)
	}
	p.joined = reply.GetJoined()
	return p
}

// say sends a message and waits for its receipt.
func (p *testParticipant) say(t *testing.T, id, body string) *quartetv1.Receipt {
	t.Helper()
	if err := p.Send(sendRequest(id, body)); err != nil {
		t.Fatal(err)
	}
	for {
		reply, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.HasReceipt() {
			if reply.GetReceipt().GetMessageId() != id {
				t.Fatalf("receipt for %q, want %q", reply.GetReceipt().GetMessageId(), id)
			}
			return reply.GetReceipt()
		}
		p.early = append(p.early, reply.GetMessage())
	}
}

// message waits for the next message of the channel.
func (p *testParticipant) message(t *testing.T) *quartetv1.ChannelMessage {
	t.Helper()
	if len(p.early) > 0 {
		m := p.early[0]
		p.early = p.early[1:]
		return m
	}
	reply, err := p.Recv()
	if err != nil || !reply.HasMessage() {
		t.Fatalf("got %v, %v; want a message", reply, err)
	}
	return reply.GetMessage()
}

func TestEveryMessageNamesTheOneBeforeIt(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice, other := ts.join(t, "room", "alice", nil), ts.join(t, "elsewhere", "alice", nil)
	if alice.joined.GetLastSequence() != 0 {
		t.Errorf("a new channel stands at %d", alice.joined.GetLastSequence())
	}
	sequences := []uint64{alice.joined.GetAfterSequence()}
	for _, id := range []string{"a", "b", "c"} {
		sequences = append(sequences, alice.say(t, id, "said "+id).GetSequence())
		other.say(t, id, "in between")
	}
	for i, id := range []string{"a", "b", "c"} {
		m := alice.message(t)
		if m.GetSequence() != sequences[i+1] || m.GetPreviousSequence() != sequences[i] ||
			m.GetMessageId() != id || string(m.GetBody()) != "said "+id {
			t.Errorf("got %v, want %d after %d", m, sequences[i+1], sequences[i])
		}
	}
}

func TestJoiningAfterASequenceReplaysTheRestAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	ts := startServer(t, dir)
	alice := ts.join(t, "room", "alice", nil)
	second := alice.say(t, "1", "one").GetSequence()
	second = max(second, alice.say(t, "2", "two").GetSequence())
	third := alice.say(t, "3", "three").GetSequence()
	_ = ts.Conn.Close()
	if err := ts.Stop(); err != nil {
		t.Fatal(err)
	}
	ts = startServer(t, dir) // It makes no difference that the server was another one.
	bob := ts.join(t, "room", "bob", &second)
	if m := bob.message(t); m.GetSequence() != third || m.GetPreviousSequence() != second ||
		string(m.GetBody()) != "three" {
		t.Errorf("got %v", m)
	}
	if bob.joined.GetLastSequence() != third || bob.joined.GetAfterSequence() != second {
		t.Errorf("joined says %v", bob.joined)
	}
}

func TestARepeatedMessageIsKeptOnce(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	first := alice.say(t, "same", "hello")
	again := alice.say(t, "same", "hello")
	if first.GetDuplicate() || !again.GetDuplicate() || again.GetSequence() != first.GetSequence() {
		t.Errorf("got %v, then %v", first, again)
	}
	last := alice.say(t, "next", "bye")
	if a, b := alice.message(t), alice.message(t); a.GetSequence() != first.GetSequence() ||
		b.GetSequence() != last.GetSequence() {
		t.Errorf("got %v and %v", a, b)
	}
}

func TestLeavingDeliversWhatIsThereAndEndsWithOK(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	for _, id := range []string{"1", "2", "3"} {
		alice.say(t, id, id)
	}
	// What grpcurl does: all requests at once, and half-close.
	bob := ts.exchange(t, joinRequest("room", "bob", new(uint64(0))), sendRequest("4", "4"))
	if err := bob.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var bodies strings.Builder
	for {
		reply, err := bob.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		bodies.Write(reply.GetMessage().GetBody())
	}
	if bodies.String() != "1234" {
		t.Errorf("got %q, want 1234", bodies.String())
	}
}

func TestAnExchangeThatBreaksTheContractIsRefused(t *testing.T) {
	ts := startServer(t, t.TempDir())
	join, ambiguous := joinRequest("room", "alice", nil), joinRequest("room", "alice", new(uint64(0)))
	ambiguous.GetJoin().SetFromSequence(1)
	for what, c := range map[string]struct {
		messages []*quartetv1.ExchangeRequest
		code     codes.Code
		reason   string
	}{
		"nothing at all": {nil, codes.InvalidArgument, "MESSAGE_ORDER"},
		"no join": {[]*quartetv1.ExchangeRequest{sendRequest("1", "x")},
			codes.InvalidArgument, "MESSAGE_ORDER"},
		"two joins": {[]*quartetv1.ExchangeRequest{join, join}, codes.InvalidArgument,
			"MESSAGE_ORDER"},
		"no channel": {[]*quartetv1.ExchangeRequest{joinRequest("", "alice", nil)},
			codes.InvalidArgument, "INVALID_NAME"},
		"no participant": {[]*quartetv1.ExchangeRequest{joinRequest("room", "", nil)},
			codes.InvalidArgument, "INVALID_NAME"},
		"10 kB of channel": {[]*quartetv1.ExchangeRequest{joinRequest(strings.Repeat("x", 10_000),
			"alice", nil)}, codes.InvalidArgument, "INVALID_NAME"},
		"two places to begin": {[]*quartetv1.ExchangeRequest{ambiguous}, codes.InvalidArgument,
			"AMBIGUOUS_START"},
		"no message id": {[]*quartetv1.ExchangeRequest{join, sendRequest("", "x")},
			codes.InvalidArgument, "INVALID_MESSAGE_ID"},
		"a message id in two": {[]*quartetv1.ExchangeRequest{join, sendRequest("a\r\nb", "x")},
			codes.InvalidArgument, "INVALID_MESSAGE_ID"},
		"a body that is too big": {[]*quartetv1.ExchangeRequest{join,
			sendRequest("1", strings.Repeat("x", 64<<10+1))}, codes.InvalidArgument, "BODY_TOO_LARGE"},
		"a sequence of nowhere": {[]*quartetv1.ExchangeRequest{joinRequest("room", "alice",
			new(uint64(12345)))}, codes.OutOfRange, "SEQUENCE_GONE"},
		"the highest sequence": {[]*quartetv1.ExchangeRequest{joinRequest("room", "alice",
			new(uint64(1<<64-1)))}, codes.OutOfRange, "SEQUENCE_GONE"},
	} {
		t.Run(what, func(t *testing.T) {
			p := ts.exchange(t, c.messages...)
			_ = p.CloseSend()
			var err error
			for err == nil {
				_, err = p.Recv()
			}
			apptest.WantStatus(t, err, c.code, c.reason)
		})
	}
}

func TestAChannelNameIsNoPatternForOthers(t *testing.T) {
	ts := startServer(t, t.TempDir())
	star := ts.join(t, "*", "s", nil)
	ts.join(t, "room.a", "alice", nil).say(t, "1", "not for the star")
	star.say(t, "1", "mine")
	if m := star.message(t); string(m.GetBody()) != "mine" || m.GetPreviousSequence() != 0 {
		t.Errorf("got %v", m)
	}
}

func TestATraceThatIsTooLongIsLeftOut(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	request := sendRequest("1", "x")
	request.GetMessage().SetTraceContext(quartetv1.TraceContext_builder{Traceparent: strings.Repeat("0", 10_000)}.Build())
	if err := alice.Send(request); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		reply, err := alice.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.GetMessage().HasTraceContext() {
			t.Error("it was passed on")
		}
	}
}

func TestAPositionOfAnotherHistoryIsRefusedWithTheSequenceToReadFrom(t *testing.T) {
	ts := startServer(t, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	first := alice.say(t, "1", "one").GetSequence()
	m := alice.message(t)
	position := quartetv1.Position_builder{
		History: alice.joined.GetAfter().GetHistory(), Sequence: m.GetSequence(),
		CreateTime: m.GetCreateTime(),
	}.Build()
	other, late := proto.CloneOf(position), proto.CloneOf(position)
	other.SetHistory("another")
	late.SetCreateTime(timestamppb.New(m.GetCreateTime().AsTime().Add(1)))
	for what, after := range map[string]*quartetv1.Position{"another stream": other,
		"another message": late, "its own": position} {
		request := joinRequest("room", "bob", nil)
		request.GetJoin().SetAfter(after)
		reply, err := ts.exchange(t, request).Recv()
		if what == "its own" {
			if err != nil || !proto.Equal(reply.GetJoined().GetAfter(), position) {
				t.Errorf("%s: joined with %v, %v", what, reply, err)
			}
			continue
		}
		details := apptest.WantStatus(t, err, codes.OutOfRange, "HISTORY_CHANGED")
		if details["first_sequence"] != strconv.FormatUint(first, 10) {
			t.Errorf("%s: %v", what, details)
		}
	}
}

func TestAParticipantWithoutAMessageIsToldWhatWasDiscardedSinceItJoined(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), []app.Service{Service()},
		"TEST_CHANNEL_DIR="+t.TempDir(), "TEST_CHANNEL_MAX_BYTES=1MiB")
	ts := &testServer{s, quartetv1.NewChannelServiceClient(s.Conn)}
	again := func(channel string, after *quartetv1.Position) (*quartetv1.ExchangeResponse, *testParticipant, error) {
		request := joinRequest(channel, "alice", nil)
		request.GetJoin().SetAfter(after)
		p := ts.exchange(t, request)
		reply, err := p.Recv()
		return reply, p, err
	}
	bob := ts.join(t, "talk", "bob", nil)
	early := bob.say(t, "early", "").GetSequence()
	positions := map[string]*quartetv1.Position{} // by the channel
	for channel, after := range map[string]*uint64{"empty": nil, "all of empty": new(uint64), "talk": new(uint64)} {
		position := ts.join(t, channel, "alice", after).joined.GetAfter()
		if position.GetSequence() != 0 || len(position.GetHistory()) > 64 {
			t.Fatalf("%s: began after %v", channel, position)
		}
		positions[channel] = position
		first := early
		if channel != "talk" {
			first = ts.join(t, channel, "bob", nil).say(t, "1", "").GetSequence()
		}
		// Twice, as the second time must be like the first.
		for range 2 {
			reply, p, err := again(channel, position)
			if err != nil || !proto.Equal(reply.GetJoined().GetAfter(), position) {
				t.Fatalf("%s: joined again with %v, %v", channel, reply, err)
			}
			m := p.message(t)
			if m.GetSequence() != first || m.GetPreviousSequence() != 0 {
				t.Errorf("%s: the first message is %v", channel, m)
			}
			seen := quartetv1.Position_builder{History: position.GetHistory(), Sequence: m.GetSequence(),
				CreateTime: m.GetCreateTime()}.Build()
			reply, _, err = again(channel, seen)
			if err != nil || !proto.Equal(reply.GetJoined().GetAfter(), seen) {
				t.Errorf("%s: joined after the message with %v, %v", channel, reply, err)
			}
		}
	}
	for i := range 40 {
		bob.say(t, strconv.Itoa(i), strings.Repeat("x", 60<<10))
	}
	for channel, position := range positions {
		reply, _, err := again(channel, position)
		if err == nil {
			t.Errorf("%s: joined after what was discarded with %v", channel, reply)
			continue
		}
		apptest.WantStatus(t, err, codes.OutOfRange, "SEQUENCE_GONE")
		history := proto.CloneOf(position)
		history.SetHistory(position.GetHistory() + "?")
		_, _, err = again(channel, history)
		apptest.WantStatus(t, err, codes.OutOfRange, "HISTORY_CHANGED")
	}
}
