package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/quartet/internal/porttest"
)

// positionAfter is what a reader knows that has received m.
func positionAfter(s *Subscription, m Message) Position {
	return Position{History: s.After().History, Sequence: m.Sequence, Time: m.Time}
}

// wantBreak fails unless err has a cause and says to read everything.
func wantBreak(t *testing.T, err, cause error) {
	t.Helper()
	var broken *BreakError
	if !errors.As(err, &broken) || !errors.Is(err, cause) || broken.First != 1 {
		t.Errorf("got %v, want %q and to read from 1", err, cause)
	}
}

// copyFolder makes a snapshot of the folder of a broker that has been closed.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "snapshot")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestPositionInAHistoryThatWasReplacedIsRefused(t *testing.T) {
	t.Parallel()
	before := openEmbedded(t)
	publishMany(t, before, "room", 3, 10)
	read := subscribe(t, before, "room", pointer(0))
	third := positionAfter(read, receive(t, read, 3)[2])
	start := read.After() // of a reader that has received nothing
	closeBroker(t, before)

	b := openEmbedded(t)
	publishMany(t, b, "room", 5, 10)
	for _, after := range []Position{third, start, {Sequence: third.Sequence, Time: third.Time}} {
		_, err := b.Subscribe(testContext(t), "room", Start{After: &after})
		wantBreak(t, err, ErrHistoryChanged)
	}
	s, err := b.Subscribe(testContext(t), "room", Start{From: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	receive(t, s, 5)
}

func TestPositionInAHistoryThatWasRolledBackIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openBroker(t, embeddedURL, Options{Dir: dir})
	publishMany(t, first, "room", 20, 10)
	closeBroker(t, first)
	snapshot := copyFolder(t, dir)

	second := openBroker(t, embeddedURL, Options{Dir: dir})
	for i := range 5 {
		publish(t, second, "room", "lost", fmt.Sprint(i), "")
	}
	read := subscribe(t, second, "room", pointer(0))
	seen := receive(t, read, 25)
	closeBroker(t, second)

	b := openBroker(t, embeddedURL, Options{Dir: snapshot})
	kept, lost := positionAfter(read, seen[19]), positionAfter(read, seen[24])
	_, err := b.Subscribe(testContext(t), "room", Start{After: &lost})
	wantBreak(t, err, ErrHistoryChanged)
	for i := range 7 {
		publish(t, b, "room", "new", fmt.Sprint(i), "")
	}
	_, err = b.Subscribe(testContext(t), "room", Start{After: &lost})
	wantBreak(t, err, ErrHistoryChanged)

	s, err := b.Subscribe(testContext(t), "room", Start{After: &kept})
	if err != nil {
		t.Fatal("a position that was kept:", err)
	}
	defer s.Close()
	receive(t, s, 7)
}

func TestReadersAreToldThatTheStoreBehindTheConnectionIsAnother(t *testing.T) {
	t.Parallel()
	for name, snapshot := range map[string]bool{"replaced by nothing": false, "rolled back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, other := t.TempDir(), t.TempDir()
			port := porttest.Port(t)
			srv := startServer(t, dir, port)
			url := serverURL(srv)
			b := openBroker(t, url, Options{})
			publishMany(t, b, "room", 20, 10)
			if snapshot {
				stopServer(srv)
				other = copyFolder(t, dir)
				srv = startServer(t, dir, port)
				eventually(t, "the broker is connected again",
					func() bool { return b.Check(testContext(t)) == nil })
			}
			reader, idle := subscribe(t, b, "room", pointer(0)), subscribe(t, b, "quiet", nil)
			for i := range 5 {
				publish(t, b, "room", "lost", fmt.Sprint(i), "")
			}
			receive(t, reader, 25)
			stopServer(srv)
			startServer(t, other, port)
			// By another replica, which connects sooner.
			there := openBroker(t, url, Options{})
			for i := range 7 {
				publish(t, there, "room", "new", fmt.Sprint(i), "")
			}
			_, err := reader.Next(testContext(t))
			wantBreak(t, err, ErrHistoryChanged)
			if _, err := idle.Next(testContext(t)); !errors.Is(err, ErrHistoryChanged) {
				t.Errorf("a reader of a quiet channel: %v", err)
			}
			if err := b.Check(testContext(t)); err != nil {
				t.Errorf("Check: %v", err)
			}
			again := subscribe(t, b, "room", pointer(0))
			for m := range 7 {
				if got := receive(t, again, 1)[0]; m == 0 && snapshot && got.Participant != "many" {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
}

func TestReadersAreToldThatTheStreamWasCreatedAnew(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv), Options{})
	sent := publishMany(t, b, "room", 3, 10)
	reader := subscribe(t, b, "room", &sent[2])
	if err := b.js.DeleteStream(testContext(t), b.names.stream); err != nil {
		t.Fatal(err)
	}
	there := openBroker(t, serverURL(srv), Options{})
	publishMany(t, there, "room", 5, 10)
	b.pollHubs()
	_, err := reader.Next(testContext(t))
	wantBreak(t, err, ErrHistoryChanged)
}

func TestAStreamThatWasTakenAwayIsCreatedAgain(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv), Options{})
	publishMany(t, b, "room", 3, 10)
	reader := subscribe(t, b, "room", nil)
	if err := b.js.DeleteStream(testContext(t), b.names.stream); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(testContext(t)); err != nil {
		t.Errorf("Check: %v", err)
	}
	publish(t, b, "room", "ann", "1", "")
	_, err := reader.Next(testContext(t))
	wantBreak(t, err, ErrHistoryChanged)
}

func TestReadingFromASequence(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	sent := publishMany(t, b, "room", 3, 10)
	publishMany(t, b, "another", 3, 10)
	for from, want := range map[uint64]int{1: 3, 2: 2, 3: 1, 4: 0, 7: 0} {
		s, err := b.Subscribe(testContext(t), "room", Start{From: from})
		if err != nil {
			t.Fatal(from, err)
		}
		defer s.Close()
		if got := receive(t, s, want); want > 0 && got[0].Sequence != sent[3-want] {
			t.Errorf("from %d: got %+v", from, got[0])
		}
		expectNone(t, s)
	}
	_, err := b.Subscribe(testContext(t), "room", Start{From: 8})
	wantBreak(t, err, ErrSequenceGone)
}

func TestAReaderThatCannotBeToldWhereToGoOnHasToJoinAgain(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir()})
	b.nc.Close()
	for _, reason := range []error{ErrSequenceGone, ErrHistoryChanged} {
		err := b.broken(t.Context(), b.names.subject+"room", reason)
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, reason) {
			t.Errorf("%v: got %v", reason, err)
		}
	}
}

func TestARestartIsNoOtherHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := openBroker(t, embeddedURL, Options{Dir: dir})
	publishMany(t, before, "room", 3, 10)
	read := subscribe(t, before, "room", pointer(0))
	third := positionAfter(read, receive(t, read, 3)[2])
	empty := subscribe(t, before, "empty", nil).After()
	closeBroker(t, before)

	time.Sleep(time.Millisecond) // Clocks go on.
	b := openBroker(t, embeddedURL, Options{Dir: dir})
	for channel, after := range map[string]Position{"room": third, "empty": empty} {
		s, err := b.Subscribe(testContext(t), channel, Start{After: &after})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		publish(t, b, channel, "ann", "1", "")
		receive(t, s, 1)
	}
}

func TestAMessageThatIsDiscardedWhileTheHistoryIsComparedIsNoOtherHistory(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv),
		Options{Retention: time.Second, DedupWindow: 500 * time.Millisecond})
	s := subscribe(t, b, "room", nil)
	publish(t, b, "room", "ann", "1", "")
	receive(t, s, 1)
	before, err := b.streamInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	before.State.FirstSeq, before.State.LastSeq = 1, 1 // Also if it was discarded already.
	eventually(t, "it is discarded", func() bool {
		info, err := b.stream.Info(testContext(t))
		return err == nil && info.State.Msgs == 0
	})
	if _, why, err := b.compare(testContext(t), before); why != "" || err != nil {
		t.Errorf("got %q, %v", why, err)
	}
}

// announce has a hub receive a message that is not in the stream.
func announce(h *hub, sequence, previous uint64) {
	msg := nats.NewMsg(h.live.Subject)
	msg.Header.Set(jetstream.SequenceHeader, strconv.FormatUint(sequence, 10))
	msg.Header.Set(jetstream.TimeStampHeaer, time.Now().UTC().Format(time.RFC3339Nano))
	msg.Header.Set(jetstream.LastSequenceHeader, strconv.FormatUint(previous, 10))
	h.announced(msg)
}

func TestOneChangeOfHistoryIsToldOnceWhateverIsAnnouncedMeanwhile(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	var old *hub
	meanwhile := sync.OnceFunc(func() { announce(old, 1, 0) })
	log := slog.New(onLog{slog.DiscardHandler, func(message string) {
		if strings.Contains(message, "another history than before") {
			meanwhile()
		}
	}})
	b := openBroker(t, serverURL(srv), Options{Log: log})
	s := subscribe(t, b, "room", nil)
	publishMany(t, b, "room", 5, 10)
	receive(t, s, 5)
	old = s.hub
	if err := b.js.DeleteStream(testContext(t), b.names.stream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is found",
		func() bool { return b.Check(testContext(t)) == nil && b.lineage.changes.Load() > 0 })
	_, err := s.Next(testContext(t))
	if !errors.Is(err, ErrHistoryChanged) {
		t.Errorf("a reader of the old history: %v", err)
	}
	announce(old, 2, 0)
	// All that the announcements have asked for.
	eventually(t, "nothing is checked any more",
		func() bool { return b.checks.Load() == 0 && b.lineage.isSettled() })
	if n := b.lineage.changes.Load(); n != 1 {
		t.Errorf("%d changes of history were told", n)
	}
}

func TestOneCheckIsEnoughForAllContradictionsThatComeMeanwhile(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	publishMany(t, b, "room", 5, 10)
	receive(t, s, 5)
	b.lineage.settling <- struct{}{} // No check gets further.
	for range 1000 {
		announce(s.hub, 1, 0)
	}
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if n := strings.Count(string(stacks), "broker.(*Broker).checkHistorySoon"); n > 500 { // Other tests have some, too.
		t.Errorf("%d goroutines check the history", n)
	}
	<-b.lineage.settling
	eventually(t, "the history is settled", func() bool { return b.checks.Load() == 0 && b.lineage.isSettled() })
	if n := b.lineage.changes.Load(); n != 0 {
		t.Errorf("%d changes of history were told", n)
	}
}

func TestAnAnnouncementThatDoesNotFitWhatWasSeenPutsTheHistoryInDoubt(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	publishMany(t, b, "room", 2, 10)
	publish(t, b, "another", "ann", "1", "")
	room, another, empty := subscribe(t, b, "room", pointer(0)), subscribe(t, b, "another", pointer(0)),
		subscribe(t, b, "empty", nil)
	receive(t, room, 2)
	receive(t, another, 1)
	for what, doubt := range map[string]struct {
		h                  *hub
		sequence, previous uint64
	}{
		"it follows a message before the last one":         {room.hub, 9, 1},
		"it is before the last one of the stream, and new": {empty.hub, 1, 0},
	} {
		before := b.lineage.doubts.Load()
		announce(doubt.h, doubt.sequence, doubt.previous)
		if b.lineage.doubts.Load() == before {
			t.Errorf("%s: no doubt", what)
		}
		if err := b.checkHistory(testContext(t)); err != nil || b.lineage.changes.Load() != 0 {
			t.Errorf("%s: %v, %d changes of history", what, err, b.lineage.changes.Load())
		}
	}
}

func TestClocksOfLeadersThatDifferCostOneDoubt(t *testing.T) {
	t.Parallel()
	l, now := newLineage(), time.Now()
	l.noteSeen(5, now)
	for range 3 { // A reader reads it again after each doubt.
		l.noteSeen(3, now.Add(-time.Second))
		l.noteSeen(4, now.Add(time.Second))
		l.settled.Store(l.doubts.Load())
	}
	if n := l.doubts.Load(); n != 1 {
		t.Errorf("%d doubts", n)
	}
}

func TestThePollFindsThatTheLastMessageSeenIsAnotherOne(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	publishMany(t, b, "room", 3, 10)
	s := subscribe(t, b, "room", nil)
	publishMany(t, b, "another", 3, 10)
	// As if another one had been there.
	b.lineage.see(found{Sequence: 3, Time: time.Now()})
	_, err := s.Next(testContext(t))
	wantBreak(t, err, ErrHistoryChanged)
}
