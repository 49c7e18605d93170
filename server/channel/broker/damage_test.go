package broker

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"
)

// flipBit damages the first block of a stream, of which at is a part from 0 to 1.
func flipBit(t *testing.T, dir string, at float64) {
	t.Helper()
	changeBlock(t, dir, func(data []byte) { data[int(float64(len(data))*at)] ^= 0x10 })
}

// changeBlock changes the first block of a stream.
func changeBlock(t *testing.T, dir string, change func(data []byte)) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream/*/streams/*/msgs/1.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	change(data)
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// readAll reads from a start until the messages end or an error says why they do.
func readAll(t *testing.T, b *Broker, start Start) (sequences []uint64, err error) {
	t.Helper()
	s, err := b.Subscribe(testContext(t), "room", start)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	previous := s.After().Sequence
	for last := s.Last(); previous < last; {
		m, err := s.Next(testContext(t))
		if err != nil {
			return sequences, err
		}
		if m.Previous != previous {
			t.Fatalf("message %d follows %d, want %d", m.Sequence, m.Previous, previous)
		}
		previous, sequences = m.Sequence, append(sequences, m.Sequence)
	}
	return sequences, s.End(testContext(t), previous)
}

// The kinds of damage are those of reports. After a clean stop the broker trusts its index, and
// skips what it cannot read; after a crash it reads everything, and drops what is behind the damage
// in a block.
func TestDamageInsideTheStreamIsCountedLoggedAndToldToReaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		clean, cluster bool
		messages, size int
		atLeast        int64
	}{
		"after a clean stop": {clean: true, messages: 400, size: 100, atLeast: 1},
		"after a crash":      {messages: 400, size: 60_000, atLeast: 50},
		"in a server of its own": {cluster: true, clean: true, messages: 400, size: 100,
			atLeast: 1},
		"in a server of its own, after a crash": {cluster: true, messages: 400, size: 60_000,
			atLeast: 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var log strings.Builder
			registry := prometheus.NewRegistry()
			opts := Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry}
			b := openBroker(t, embeddedURL, Options{Dir: dir})
			publishMany(t, b, "room", c.messages, c.size)
			if c.clean {
				closeBroker(t, b)
			}
			opts.Dir = copyFolder(t, dir)
			flipBit(t, opts.Dir, 0.5)
			url := embeddedURL
			if c.cluster {
				url = serverURL(startServer(t, opts.Dir, -1))
			}
			b = openBroker(t, url, opts)

			before, err := readAll(t, b, Start{After: &Position{}})
			var broken *BreakError
			if !errors.As(err, &broken) || !errors.Is(err, ErrDamaged) ||
				broken.First <= before[len(before)-1]+1 {
				t.Fatalf("%d messages, then %v", len(before), err)
			}
			after, err := readAll(t, b, Start{From: broken.First})
			if err != nil {
				t.Fatalf("behind the damage: %d messages, then %v", len(after), err)
			}
			missing := int64(c.messages - len(before) - len(after))
			if missing != b.damage.count() || missing < c.atLeast {
				t.Errorf("%d of %d messages are missing, %d are counted", missing, c.messages, b.damage.count())
			}
			if got := gaugeOf(t, registry, "channel_damaged_messages"); got != float64(missing) {
				t.Errorf("the gauge says %v", got)
			}
			if strings.Count(log.String(), "messages are missing inside the stream") != 1 {
				t.Errorf("logged:\n%s", &log)
			}
			// A subscriber that joins after it misses nothing.
			live := subscribe(t, b, "room", nil)
			publish(t, b, "room", "ann", "1", "")
			receive(t, live, 1)
		})
	}
}

func TestDamageAtEitherEndLeavesTheRestToReaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at            float64
		before, after int
	}{"the first message": {0.0005, 0, 399}, "the last message": {0.9985, 399, 0}} {
		dir := t.TempDir()
		b := openBroker(t, embeddedURL, Options{Dir: dir})
		publishMany(t, b, "room", 400, 100)
		closeBroker(t, b)
		flipBit(t, dir, c.at)
		b = openBroker(t, embeddedURL, Options{Dir: dir})
		before, err := readAll(t, b, Start{After: &Position{}})
		var broken *BreakError
		if !errors.As(err, &broken) || !errors.Is(err, ErrDamaged) || len(before) != c.before {
			t.Fatalf("%s: %d messages, then %v", name, len(before), err)
		}
		if after, err := readAll(t, b, Start{From: broken.First}); err != nil || len(after) != c.after {
			t.Errorf("%s: behind the damage %d messages, then %v", name, len(after), err)
		}
	}
}

// The broker drops what is behind the damage, and says nothing. A crash soon after the messages is
// the one for which nothing else was noted.
func TestDamageThatTakesTheEndOfTheStreamIsCountedAndLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBroker(t, embeddedURL, Options{Dir: dir})
	publishMany(t, b, "room", 100, 100)
	crashed := copyFolder(t, dir)
	if err := os.Remove(filepath.Join(crashed, newestFile)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	flipBit(t, crashed, 0.5)
	var log strings.Builder
	registry, began := prometheus.NewRegistry(), time.Now().Unix()
	b = openBroker(t, embeddedURL,
		Options{Dir: crashed, Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry})
	if at := gaugeOf(t, registry, "channel_history_changed_timestamp_seconds"); at < float64(began) {
		t.Errorf("the history has changed at %v, and the broker began at %d", at, began)
	}
	left, err := readAll(t, b, Start{After: &Position{}})
	if err != nil || len(left) == 0 || len(left) == 100 {
		t.Fatalf("%d messages are left, %v", len(left), err)
	}
	if b.lineage.changes.Load() != 1 || strings.Count(log.String(), "the end of the stream is gone") != 1 {
		t.Errorf("%d changes of the history; logged:\n%s", b.lineage.changes.Load(), &log)
	}
}

func gaugeOf(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name && family.GetType() == dto.MetricType_GAUGE {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no gauge", name)
	return 0
}

func TestHolesAreJoinedAndForgottenOnceTheyAreDiscarded(t *testing.T) {
	t.Parallel()
	var d damage
	for _, hole := range []span{{5, 6}, {20, 30}, {1, 2}, {7, 9}, {3, 3}, {25, 26}} {
		if news := d.add(hole); news != (hole != span{25, 26}) {
			t.Errorf("%v: news %t", hole, news)
		}
	}
	if want := []span{{1, 3}, {5, 9}, {20, 30}}; len(d.holes) != 3 || d.holes[0] != want[0] ||
		d.holes[1] != want[1] || d.holes[2] != want[2] {
		t.Errorf("got %v", d.holes)
	}
	for _, c := range []struct {
		after, through uint64
		first          uint64
	}{{0, 1, 1}, {3, 4, 0}, {3, 5, 5}, {8, 12, 5}, {9, 19, 0}, {9, 50, 20}, {30, 99, 0}} {
		if hole, found := d.between(c.after, c.through); found != (c.first != 0) ||
			hole.first != c.first {
			t.Errorf("between %d and %d: %v", c.after, c.through, hole)
		}
	}
	d.forget(10)
	if d.count() != 11 {
		t.Errorf("%d are left", d.count())
	}
}

func TestAnEndThatIsCutOffIsLoggedAndCountsAsAnotherHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := openBroker(t, embeddedURL, Options{Dir: dir})
	read := subscribe(t, before, "room", nil)
	publishMany(t, before, "room", 100, 100)
	last := positionAfter(read, receive(t, read, 100)[99])
	closeBroker(t, before)
	flipBit(t, dir, 0.5) // The broker cuts off a short block there.

	var log strings.Builder
	b := openBroker(t, embeddedURL, Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if publish(t, b, "room", "ann", "1", "").Sequence > 100 {
		t.Fatal("the broker cut nothing off")
	}
	publishMany(t, b, "another", 60, 10)
	_, err := b.Subscribe(testContext(t), "room", Start{After: &last})
	wantBreak(t, err, ErrHistoryChanged)
	if !strings.Contains(log.String(), "the end of the stream is gone") ||
		b.lineage.changes.Load() != 1 {
		t.Errorf("%d changes, logged:\n%s", b.lineage.changes.Load(), &log)
	}
}

// The verifying of a stream that has been deleted may not be over when there is another one, in
// which most of its sequences are still to come.
func TestWhatANewHistoryDoesNotHaveYetIsNotMissing(t *testing.T) {
	t.Parallel()
	b := openBroker(t, serverURL(startServer(t, t.TempDir(), -1)), Options{})
	publishMany(t, b, "room", 100, 10)
	b.damage.verifyAgain(1, 100)
	next, until, _ := b.damage.unverified()
	if err := b.js.DeleteStream(testContext(t), b.names.stream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another stream is there", func() bool { return b.Check(testContext(t)) == nil })
	publish(t, b, "room", "ann", "first", "")
	b.verifyAll(testContext(t))
	b.lineage.doubt()
	if _, err := b.verify(testContext(t), next, until); err == nil {
		t.Error("what is read while the history is in doubt counts as verified")
	}
	if err := b.Check(testContext(t)); err != nil {
		t.Fatal(err)
	}
	publishMany(t, b, "room", 100, 10)
	all, err := readAll(t, b, Start{After: &Position{}})
	if len(all) != 101 || err != nil || b.damage.count() != 0 {
		t.Errorf("%d messages, then %v; %d are missing", len(all), err, b.damage.count())
	}
}

// One flipped bit of a length or of a sequence made NATS fill memory until there was none.
func TestDamagedRecordsDoNotKeepTheBrokerFromStarting(t *testing.T) {
	t.Parallel()
	for _, flip := range []struct{ offset, bit int }{{0, 3}, {2, 7}, {3, 6}, {4, 0}, {7, 1}, {9, 5},
		{11, 5}, {11, 6}, {11, 7}, {20, 4}} {
		dir := t.TempDir()
		b := openBroker(t, embeddedURL, Options{Dir: dir})
		publishMany(t, b, "room", 400, 100)
		closeBroker(t, b)
		block := filepath.Join(dir, "jetstream/$G/streams/BROKER_CHANNELS/msgs/1.blk")
		data, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for range 200 { // records
			at += int(binary.LittleEndian.Uint32(data[at:]) &^ withHeaders)
		}
		data[at+flip.offset] ^= 1 << flip.bit
		if err := os.WriteFile(block, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b = openBroker(t, embeddedURL, Options{Dir: dir})
		before, err := readAll(t, b, Start{After: &Position{}})
		if len(before) != 200 || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: %d messages, then %v", flip, len(before), err)
		}
		if err == nil && b.lineage.changes.Load() == 0 {
			t.Errorf("%+v: the end is gone, and no subscriber was told", flip)
		}
		closeBroker(t, b)
	}
}
