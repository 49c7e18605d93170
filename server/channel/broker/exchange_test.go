package broker

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSubscribersGetEverythingInOrderWithItsPredecessor(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	live := map[string]*Subscription{"red": subscribe(t, b, "red", nil),
		"blue": subscribe(t, b, "blue", nil)}
	want := map[string][]uint64{}
	for i := range 200 {
		name := []string{"red", "blue"}[i%2]
		want[name] = append(want[name],
			publish(t, b, name, "ann", fmt.Sprint(i), fmt.Sprint(name, i)).Sequence)
	}
	for name, s := range live {
		if got := sequencesOf(receive(t, s, 100)); !slices.Equal(got, want[name]) {
			t.Errorf("%s live: got %d, want %d", name, got, want[name])
		}
		replayed := receive(t, subscribe(t, b, name, pointer(0)), 100)
		if got := sequencesOf(replayed); !slices.Equal(got, want[name]) {
			t.Errorf("%s replayed: got %d, want %d", name, got, want[name])
		}
		expectNone(t, s)
	}
}

func TestMessageArrivesAsItWasPublished(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	const channel = "café *.> $SYS % room"
	sent := Message{
		Participant: " Zoë 🦊.>\u00a0",
		ID:          "A-z_09",
		Body:        []byte("NATS/1.0\r\n\r\n\x00\xff"),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Tracestate:  "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
	}
	live := subscribe(t, b, channel, nil)
	started := time.Now()
	if _, err := b.Publish(testContext(t), channel, sent); err != nil {
		t.Fatal(err)
	}
	for how, s := range map[string]*Subscription{"live": live,
		"replayed": subscribe(t, b, channel, pointer(0))} {
		got := receive(t, s, 1)[0]
		if got.Participant != sent.Participant || got.ID != sent.ID ||
			!bytes.Equal(got.Body, sent.Body) ||
			got.Traceparent != sent.Traceparent || got.Tracestate != sent.Tracestate {
			t.Errorf("%s: got %+v, want %+v", how, got, sent)
		}
		if got.Time.Before(started.Add(-time.Second)) || got.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("%s: time is %v", how, got.Time)
		}
	}
}

func TestMalformedTraceContextIsLeftOut(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	for i, m := range []Message{
		{Traceparent: "00-a\r\nNats-Msg-Id: x", Tracestate: "a=b"},
		{Traceparent: strings.Repeat("a", 65)},
		{Traceparent: "ok", Tracestate: "a=é"},
		{Traceparent: "ok", Tracestate: strings.Repeat("a", 513)},
	} {
		m.Participant, m.ID = "ann", fmt.Sprint(i)
		if _, err := b.Publish(testContext(t), "room", m); err != nil {
			t.Fatal(err)
		}
		got := receive(t, s, 1)[0]
		if got.Tracestate != "" || got.Traceparent != "" && got.Traceparent != "ok" {
			t.Errorf("%+v arrived as %+v", m, got)
		}
	}
}

func TestJoinAfterASequenceGetsExactlyTheRest(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	sent := publishMany(t, b, "room", 300, 10)
	for _, seen := range []int{1, 150, 299, 300} {
		s := subscribe(t, b, "room", pointer(sent[seen-1]))
		if s.After().Sequence != sent[seen-1] || s.Last() != sent[299] {
			t.Errorf("joined after %d of %d: after %d, last %d", seen, sent[299], s.After().Sequence,
				s.Last())
		}
		if got := sequencesOf(receive(t, s, 300-seen)); !slices.Equal(got, sent[seen:]) {
			t.Errorf("after %d messages: got %d", seen, got)
		}
		expectNone(t, s)
	}
}

func TestJoinFromNowOnGetsNothingOld(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	old := publish(t, b, "room", "ann", "1", "old").Sequence
	publish(t, b, "another", "ann", "1", "old")
	s := subscribe(t, b, "room", nil)
	if s.After().Sequence != old || s.Last() != old {
		t.Errorf("after %d, last %d, want %d", s.After().Sequence, s.Last(), old)
	}
	expectNone(t, s)
	publish(t, b, "room", "ann", "2", "new")
	if m := receive(t, s, 1)[0]; m.Previous != old || string(m.Body) != "new" {
		t.Errorf("got %+v", m)
	}
}

func TestJoinAnEmptyChannelGetsTheFirstMessage(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]*uint64{"from now on": nil, "all that is kept": pointer(0)} {
		b := openEmbedded(t)
		publish(t, b, "another", "ann", "1", "elsewhere")
		s := subscribe(t, b, "room", after)
		if s.After().Sequence != 0 || s.Last() != 0 {
			t.Errorf("%s: after %d, last %d", name, s.After().Sequence, s.Last())
		}
		publish(t, b, "room", "ann", "1", "first")
		if m := receive(t, s, 1)[0]; m.Previous != 0 || string(m.Body) != "first" {
			t.Errorf("%s: got %+v", name, m)
		}
	}
}

func TestJoinAfterAMessageThatIsNotInTheChannelIsRefused(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	elsewhere := publish(t, b, "another", "ann", "1", "").Sequence
	publish(t, b, "room", "ann", "1", "")
	for _, after := range []uint64{elsewhere, 1000, 1<<64 - 1} {
		if _, err := b.Subscribe(testContext(t), "room", startAfter(&after)); !errors.Is(err,
			ErrSequenceGone) {
			t.Errorf("after %d: %v", after, err)
		}
	}
	if len(b.hubs) != 0 {
		t.Error("a refused subscriber left something behind")
	}
}

func TestRepeatedMessageIsDroppedAndAnsweredWithTheFirst(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	first := publish(t, b, "room", "ann", "1", "first")
	publish(t, b, "room", "ann", "2", "between")
	if again := publish(t, b, "room", "ann", "1", "again"); !again.Duplicate ||
		again.Sequence != first.Sequence || first.Duplicate {
		t.Errorf("first %+v, again %+v", first, again)
	}
	receive(t, s, 2)
	expectNone(t, s)
}

func TestSameIDOfSomebodyElseOrElsewhereIsNotDropped(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	seen := map[uint64]bool{}
	for _, place := range [][2]string{{"room", "ann"}, {"room", "bob"}, {"another", "ann"},
		{"room.ann", "x"}, {"room", "ann.x"}} {
		r := publish(t, b, place[0], place[1], "1", "")
		if r.Duplicate || seen[r.Sequence] {
			t.Errorf("%v: %+v", place, r)
		}
		seen[r.Sequence] = true
	}
}

func TestEverybodySeesTheSameWhileManyPublish(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	const publishers, each, subscribers = 8, 100, 16
	var tasks sync.WaitGroup
	var seen [subscribers][]uint64
	for i := range subscribers {
		s := subscribe(t, b, "room", []*uint64{nil, pointer(0)}[i%2])
		tasks.Go(func() { seen[i] = sequencesOf(receive(t, s, publishers*each)) })
	}
	for p := range publishers {
		tasks.Go(func() {
			for i := range each {
				publish(t, b, "room", fmt.Sprint("publisher", p), fmt.Sprint(i), "")
				publish(t, b, "noise", fmt.Sprint("publisher", p), fmt.Sprint(i), "")
			}
		})
	}
	tasks.Wait()
	for i := range seen {
		if !slices.Equal(seen[i], seen[0]) {
			t.Errorf("subscriber %d saw something else than the first", i)
		}
	}
}

func TestHostileNamesAreHarmlessOrRefused(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	spy := subscribe(t, b, "a", nil)
	for i, name := range []string{"a.>", "a.*", "*", ">", "a b", ".", "..", "$JS.API", "%61", "é",
		strings.Repeat("é", 64)} {
		s := subscribe(t, b, name, nil)
		publish(t, b, name, name, fmt.Sprint(i), name)
		if m := receive(t, s, 1)[0]; string(m.Body) != name || m.Participant != name {
			t.Errorf("%q: got %q from %q", name, m.Body, m.Participant)
		}
		expectNone(t, s)
	}
	expectNone(t, spy)
	for _, name := range []string{"", strings.Repeat("x", 129), strings.Repeat("x", 10_000), "a\x00",
		"\xff", "a\r\nb", "\u0085"} {
		_, err := b.Publish(testContext(t), name, Message{Participant: "ann", ID: "1"})
		_, err2 := b.Publish(testContext(t), "room", Message{Participant: name, ID: "1"})
		_, err3 := b.Subscribe(testContext(t), name, startAfter(nil))
		_, err4 := b.LastSequence(testContext(t), name)
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, ErrInvalidName) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func TestMessageIDsOutsideTheRulesAreRefused(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	for _, id := range []string{"", strings.Repeat("x", 65), "a b", "a.b", "é", "a\n"} {
		_, err := b.Publish(testContext(t), "room", Message{Participant: "ann", ID: id})
		if !errors.Is(err, ErrInvalidMessageID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestLargestBodyIsTakenAndALargerOneRefused(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", pointer(0))
	large := Message{Participant: strings.Repeat("é", 64), ID: strings.Repeat("x", 64),
		Body:        make([]byte, MaxBody),
		Traceparent: strings.Repeat("x", 64), Tracestate: strings.Repeat("x", 512)}
	if _, err := b.Publish(testContext(t), "room", large); err != nil {
		t.Error(err)
	}
	if m := receive(t, s, 1)[0]; len(m.Body) != MaxBody {
		t.Errorf("got %d bytes", len(m.Body))
	}
	large.Body = make([]byte, MaxBody+1)
	if _, err := b.Publish(testContext(t), "room", large); !errors.Is(err, ErrBodyTooLarge) {
		t.Error(err)
	}
}

func TestLastSequenceIsTheChannels(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	if last, err := b.LastSequence(testContext(t), "room"); last != 0 || err != nil {
		t.Errorf("empty: %d, %v", last, err)
	}
	want := publish(t, b, "room", "ann", "1", "").Sequence
	publish(t, b, "another", "ann", "1", "")
	if last, err := b.LastSequence(testContext(t), "room"); last != want || err != nil {
		t.Errorf("got %d, %v, want %d", last, err, want)
	}
}
