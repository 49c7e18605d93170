package channel

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/channel/broker"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// startLimited starts a server with some limits.
func startLimited(t *testing.T, settings ...string) *testServer {
	t.Helper()
	environ := []string{"TEST_CHANNEL_DIR=" + t.TempDir()}
	for _, setting := range settings {
		environ = append(environ, "TEST_CHANNEL_"+setting)
	}
	s := apptest.Start(t, telemetry.Discard(), []app.Service{Service()}, environ...)
	return &testServer{s, quartetv1.NewChannelServiceClient(s.Conn)}
}

func TestAParticipantThatDoesNotReadIsSentAwayWithItsPosition(t *testing.T) {
	ts := startLimited(t, "SEND_TIMEOUT=500ms")
	deaf := ts.join(t, "room", "deaf", nil)
	ann := ts.join(t, "room", "ann", nil)
	body := strings.Repeat("x", 60<<10)
	for i := range 40 { // More than the windows of the stream hold.
		ann.say(t, strconv.Itoa(i), body)
		ann.message(t)
	}
	// It sends all the same, and is not read once its receipts wait.
	for i := range 20 {
		if deaf.Send(sendRequest(fmt.Sprint("d", i), "x")) != nil {
			break
		}
	}
	begun := time.Now()
	time.Sleep(time.Second) // It has to be sent away in this time.
	var last uint64
	var err error
	for err == nil {
		var reply *quartetv1.ExchangeResponse
		if reply, err = deaf.Recv(); reply.HasMessage() {
			last = reply.GetMessage().GetSequence()
		}
	}
	details := apptest.WantStatus(t, err, codes.DeadlineExceeded, "NOT_READING")
	if got, _ := strconv.ParseUint(details["last_sequence"], 10, 64); got > last || got == 0 {
		t.Errorf("it got up to %d, and was told %v", last, details)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
	again := ts.join(t, "room", "deaf", &last)
	if m := again.message(t); m.GetPreviousSequence() != last {
		t.Errorf("it goes on with %d after %d", m.GetSequence(), m.GetPreviousSequence())
	}
}

func TestAnExchangeWithoutItsJoinDoesNotStay(t *testing.T) {
	ts := startLimited(t, "JOIN_TIMEOUT=100ms")
	silent := ts.exchange(t)
	_, err := silent.Recv()
	apptest.WantStatus(t, err, codes.DeadlineExceeded, "IDLE")
}

func TestParticipantsAreBoundedOverAllAndOfOneCaller(t *testing.T) {
	for setting, text := range map[string]string{
		"MAX_PARTICIPANTS_PER_CALLER=2": "too many participants of one caller",
		"MAX_PARTICIPANTS=2":            "too many participants of one caller", // which may have half
	} {
		ts := startLimited(t, setting)
		alice := ts.join(t, "room", "alice", nil)
		if strings.Contains(setting, "CALLER") {
			ts.join(t, "room", "bob", nil)
		}
		_, err := ts.exchange(t, joinRequest("room", "carol", nil)).Recv()
		apptest.WantStatus(t, err, codes.ResourceExhausted, "TOO_MANY_PARTICIPANTS")
		if !rpc.IsBusy(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", setting, err)
		}
		if err := alice.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for err == nil || rpc.IsBusy(err) { // Until alice has left.
			var reply *quartetv1.ExchangeResponse
			if reply, err = ts.exchange(t, joinRequest("room", "carol", nil)).Recv(); reply.HasJoined() {
				break
			}
		}
		if err != nil {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestChannelsWithMessagesAreBounded(t *testing.T) {
	ts := startLimited(t, "MAX_KEPT=2")
	ts.join(t, "1", "alice", nil).say(t, "1", "x")
	ts.join(t, "2", "alice", nil).say(t, "1", "x")
	third := ts.join(t, "3", "alice", nil)
	if err := third.Send(sendRequest("1", "x")); err != nil {
		t.Fatal(err)
	}
	_, err := third.Recv()
	apptest.WantStatus(t, err, codes.ResourceExhausted, "TOO_MANY_CHANNELS")
	ts.join(t, "1", "alice", nil).say(t, "2", "there is room in those that are there")
}

func TestParticipantsOfOneCallerShareOnePace(t *testing.T) {
	b, err := broker.OpenAll(t.Context(), "embedded:", broker.Options{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	places := newParticipants(10, 0, b.Pace())
	first, err := places.enter(rpc.Caller{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := places.enter(rpc.Caller{})
	if err != nil || first != second {
		t.Errorf("two participants have two paces, %v", err)
	}
	expired, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for first.Wait(expired, broker.Message{}) == nil { // until it has to wait
		continue
	}
	places.leave(rpc.Caller{})
	places.leave(rpc.Caller{})
	// Others come and go, so that those that are idle are forgotten.
	for i := range minSweep {
		caller := rpc.CallerAt(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
		if _, err := places.enter(caller); err != nil {
			t.Fatal(err)
		}
		places.leave(caller)
	}
	if again, err := places.enter(rpc.Caller{}); err != nil || again != first {
		t.Errorf("a caller that comes back has another pace, %v", err)
	}
	if len(places.byCaller) > 2 {
		t.Errorf("%d callers are known", len(places.byCaller))
	}
}

func TestCallersWithoutParticipantsAreForgotten(t *testing.T) {
	b, err := broker.OpenAll(t.Context(), "embedded:", broker.Options{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	places := newParticipants(10, 0, b.Pace())
	for i := range 10 * minSweep {
		caller := rpc.CallerAt(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
		pace, err := places.enter(caller)
		if err != nil {
			t.Fatal(err)
		}
		if err := pace.Wait(t.Context(), broker.Message{}); err != nil {
			t.Fatal(err)
		}
		places.leave(caller)
	}
	if len(places.byCaller) > 2*minSweep {
		t.Errorf("%d callers are known", len(places.byCaller))
	}
}
