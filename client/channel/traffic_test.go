package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
	"example.com/quartet/internal/traffic/traffictest"
)

const exchange = "Exchange"

// newTraffic starts a fake and makes the traffic that calls it, with the speaker that makes its
// operation.
func newTraffic(t *testing.T) (*fake, traffic.Source, *speaker) {
	t.Helper()
	f, address := startFake(t)
	tele := telemetry.Discard()
	session := cli.Connection{Conn: clienttest.Dial(t, tele, address, descriptor), Telemetry: tele,
		Instance: "test"}
	source := Config{Messages: 500}.traffic(session)
	session.Telemetry = telemetry.Discard() // Each client has its own.
	s := newSpeaker(session)
	source.Operations[0].Do, source.CleanUp = s.say, s.leave
	t.Cleanup(func() {
		if s.conversation != nil {
			s.close()
		}
	})
	return f, source, s
}

func try(t *testing.T, source traffic.Source, want string) {
	t.Helper()
	if got := traffictest.Try(t, source, exchange); got != want {
		t.Errorf("it is %s, expected %s", got, want)
	}
}

func TestRightAnswersAreGood(t *testing.T) {
	_, source, s := newTraffic(t)
	for range 3 {
		try(t, source, "good")
	}
	if err := s.leave(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWrongAnswersAreBad(t *testing.T) {
	for name, twist := range map[string]func([]*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse{
		"body": func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
			r[0].GetMessage().SetBody([]byte("something else"))
			return r
		},
		"gap": func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
			r[0].GetMessage().SetPreviousSequence(r[0].GetMessage().GetPreviousSequence() + 1)
			return r
		},
		"receipt": func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
			r[1].GetReceipt().SetSequence(77)
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, source, _ := newTraffic(t)
			f.twistReplies = twist
			try(t, source, "wrong")
		})
	}
}

func TestMessageTwiceIsBad(t *testing.T) {
	f, source, speaker := newTraffic(t)
	var first *quartetv1.ExchangeResponse
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
		if first == nil {
			first = proto.CloneOf(r[0])
			return r
		}
		// The first message comes in place of the second.
		r[0].GetMessage().SetBody(first.GetMessage().GetBody())
		return r
	}
	try(t, source, "good")
	try(t, source, "wrong")
	if speaker.conversation != nil {
		t.Error("the conversation goes on after a wrong message")
	}
}

// A message may be late because its conversation broke. The next conversation hears it, and must
// not stumble.
func TestLateMessageOfAnAbandonedConversation(t *testing.T) {
	f, source, _ := newTraffic(t)
	try(t, source, "good") // It connects and joins, for which there is less time below.
	var held *quartetv1.ExchangeResponse
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse {
		if held == nil {
			held = r[0]
			return nil
		}
		m, late := r[0].GetMessage(), held.GetMessage()
		late.SetPreviousSequence(m.GetPreviousSequence())
		late.SetSequence(m.GetSequence())
		m.SetPreviousSequence(m.GetSequence())
		m.SetSequence(m.GetSequence() + 1)
		r[1].GetReceipt().SetSequence(m.GetSequence())
		return append([]*quartetv1.ExchangeResponse{held}, r...)
	}
	if got := traffictest.TryWithin(t, 2*time.Second, source, exchange); got != "bad" {
		t.Errorf("the message that does not come is %s", got)
	}
	try(t, source, "good")
}

func TestUnheardMessageWithReceiptIsWrong(t *testing.T) {
	f, source, _ := newTraffic(t)
	try(t, source, "good") // It connects and joins, for which there is less time below.
	f.twistReplies = func(r []*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse { return r[1:] }
	var last error
	do := source.Operations[0].Do
	source.Operations[0].Do = func(ctx context.Context) error {
		last = do(ctx)
		return last
	}
	if got := traffictest.TryWithin(t, 2*time.Second, source, exchange); got != "wrong" ||
		!errors.Is(last, context.DeadlineExceeded) {
		t.Errorf("it is %s: %v", got, last)
	}
}

func TestTrafficCountsAndLeavesTheChannel(t *testing.T) {
	_, source, s := newTraffic(t)
	registry := prometheus.NewRegistry()
	running := traffic.New(traffic.Options{Timeout: 30 * time.Second, Registerer: registry,
		Log: slog.New(slog.DiscardHandler)}, source)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error)
	go func() { done <- running.Run(ctx) }()
	counted := func() [2]float64 { return traffictest.Counted(t, registry)[exchange] }
	apptest.Eventually(t, func() bool { return counted()[0] >= 5 },
		func() string { return fmt.Sprintf("counted %v", counted()) })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := counted(); got[1] > 0 {
		t.Errorf("%v bad", got[1])
	}
	if s.conversation != nil {
		t.Error("the conversation goes on after the traffic")
	}
}
