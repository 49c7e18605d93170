package soak

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

var (
	duration = flag.Duration("duration", 4*time.Second, "how long things happen")
	seed     = flag.Uint64("seed", 0, "what all decisions follow from; random if 0")
)

// stepTimeout is how long one step may take on a busy machine.
const stepTimeout = 2 * time.Minute

func TestAChannelNoticesWhenItsHistoryIsNotWhatItWas(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than everything else that a change concerns")
	}
	chosen := *seed
	for chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("seed %d", chosen)
	w := newFixture(t, chosen)
	steps := []step{
		{"restart", func() { w.down(w.server.Stop) }},
		{"crash", func() { w.down(w.server.Kill) }},
		{"snapshot", w.takeSnapshot},
		{"roll back", w.rollBack},
		{"replace", w.replace},
		{"damage", w.damage},
	}
	if w.disk != "" {
		steps = append(steps, step{"fill", w.fill})
	}
	end := time.Now().Add(*duration)
	for n := 0; n < len(steps) || time.Now().Before(end); n++ {
		step := steps[w.random.IntN(len(steps))]
		if n < len(steps) {
			step = steps[n] // Each at least once.
		}
		w.say(1 + w.random.IntN(20))
		t.Logf("%d: %s, with %d messages", n, step.name, len(w.kept))
		step.do()
		w.say(1 + w.random.IntN(5))
		w.verify()
		if t.Failed() {
			t.Fatalf("to repeat it: -seed %d", chosen)
		}
	}
}

type step struct {
	name string
	do   func()
}

// fixture is a server whose folder things happen to, and what its channel has.
type fixture struct {
	t        *testing.T
	random   *rand.Rand
	disk     string // the file system that the folder is on, if that is one of its own
	dir      string
	server   *processtest.Server
	client   *channel.Client
	listener *channel.Conversation
	number   int

	kept []string // what was said and has a receipt, in order
	// snapshot is a copy of the folder, and what it has; "" if there is none.
	snapshot     string
	snapshotKept []string
}

func newFixture(t *testing.T, seed uint64) *fixture {
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=96m"); err != nil {
		t.Logf("without a full disk, for which root has to mount a small one: %v", err)
		disk = ""
	} else {
		t.Cleanup(func() {
			if err := syscall.Unmount(disk, 0); err != nil {
				t.Error(err)
			}
		})
	}
	dir := filepath.Join(cmp.Or(disk, t.TempDir()), "channel")
	server := processtest.Start(t, process.Setting("CHANNEL_DIR", dir))
	tele := telemetry.Discard()
	service := quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService")
	w := &fixture{
		t: t, disk: disk, random: rand.New(rand.NewPCG(seed, 1)), dir: dir, server: server,
		client: channel.NewClient(clienttest.Dial(t, tele, server.Address, service), channel.Options{
			Telemetry: tele, Resumption: rpc.Resumption{MaxTries: 1000, RetryDelay: 10 * time.Millisecond},
		}),
	}
	w.listen()
	t.Cleanup(func() { w.listener.Close() })
	return w
}

func (w *fixture) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), stepTimeout)
}

func (w *fixture) join(options channel.JoinOptions) *channel.Conversation {
	w.t.Helper()
	options.Channel, options.Participant = "room", "reader"
	v, err := w.client.Join(context.Background(), options)
	if err != nil {
		w.t.Fatalf("join %+v: %v", options, err)
	}
	return v
}

// listen has the listener hear what comes now.
func (w *fixture) listen() { w.listener = w.join(channel.JoinOptions{}) }

// say says something, which the listener has to hear.
func (w *fixture) say(count int) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	for range count {
		w.number++
		body := fmt.Sprintf("%d %s", w.number, strings.Repeat("x", w.random.IntN(4000)))
		said := make(chan error, 1)
		go func() {
			_, err := w.listener.Send(ctx, []byte(body))
			said <- err
		}()
		m, err := w.listener.Receive(ctx)
		if err != nil || string(m.GetBody()) != body {
			w.t.Fatalf("the listener heard %.20q instead of %.20q: %v", m.GetBody(), body, err)
		}
		if err := <-said; err != nil {
			w.t.Fatalf("no receipt for %.20q: %v", body, err)
		}
		w.kept = append(w.kept, body)
	}
}

// down ends the server, does something, and starts it again.
func (w *fixture) down(end func(), does ...func()) {
	w.t.Helper()
	end()
	for _, do := range does {
		do()
	}
	w.server.Restart()
}

func (w *fixture) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) takeSnapshot() {
	w.down(w.server.Stop, func() {
		w.snapshot, w.snapshotKept = filepath.Join(w.t.TempDir(), "snapshot"), slices.Clone(w.kept)
		w.must(os.CopyFS(w.snapshot, os.DirFS(w.dir)))
	})
}

func (w *fixture) rollBack() {
	if w.snapshot == "" {
		w.takeSnapshot()
		w.say(1)
	}
	w.down(w.server.Stop, func() {
		w.must(os.RemoveAll(w.dir))
		w.must(os.CopyFS(w.dir, os.DirFS(w.snapshot)))
		w.kept, w.snapshot = w.snapshotKept, ""
	})
	w.wantTold()
}

func (w *fixture) replace() {
	w.down(w.server.Kill, func() { w.must(os.RemoveAll(w.dir)) })
	w.kept, w.snapshot = nil, "" // A snapshot of another history would be a third one.
	w.wantTold()
}

// wantTold wants the listener to be told that the history has changed, and has it listen again.
func (w *fixture) wantTold() {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	if m, err := w.listener.Receive(ctx); !errors.Is(err, channel.ErrHistoryChanged) {
		w.t.Fatalf("the listener was not told that the history has changed: %.20q, %v", m.GetBody(), err)
	}
	w.listener.Close()
	w.listen()
}

// damage flips a bit somewhere in what is stored. Whatever is missing then, readers are told, by
// one of two reasons.
func (w *fixture) damage() {
	w.say(30)
	end := w.server.Stop
	if w.random.IntN(2) == 0 {
		end = w.server.Kill
	}
	w.down(end, func() {
		blocks, err := filepath.Glob(filepath.Join(w.dir, "jetstream/*/streams/*/msgs/*.blk"))
		if err != nil || len(blocks) == 0 {
			w.t.Fatal(blocks, err)
		}
		block := blocks[w.random.IntN(len(blocks))]
		data, err := os.ReadFile(block)
		w.must(err)
		data[w.random.IntN(len(data))] ^= 1 << w.random.IntN(8)
		w.must(os.WriteFile(block, data, 0o600))
	})
	heard, damaged := w.readAll()
	if !isSubsequence(heard, w.kept) {
		w.t.Fatalf("%d messages were read that are not those that were said", len(heard))
	}
	// A message of a speaker that begins now shows whether the listener goes on.
	ctx, cancel := w.context()
	defer cancel()
	before := len(w.kept)
	w.must(w.trySay())
	m, err := w.listener.Receive(ctx)
	told := errors.Is(err, channel.ErrHistoryChanged) || rpc.Reason(err) == "DAMAGED"
	if err != nil && !told || err == nil && string(m.GetBody()) != w.kept[before] {
		w.t.Fatalf("the listener heard %.20q, %v", m.GetBody(), err)
	}
	if missing := before - len(heard); missing > 0 && !damaged && !told {
		w.t.Fatalf("%d messages are missing, and neither the reader nor the listener was told", missing)
	}
	w.t.Logf("%d of %d messages are left; damage %t, listener %v", len(heard), before, damaged, err)
	w.listener.Close()
	w.down(w.server.Stop, func() { w.must(os.RemoveAll(w.dir)) })
	w.kept, w.snapshot = nil, ""
	w.listen()
}

// fill takes all room on the disk while the server runs, and gives it back.
func (w *fixture) fill() {
	filler := filepath.Join(w.disk, "filler")
	file, err := os.Create(filler)
	w.must(err)
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := file.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = file.Close() // There may be no room for its last bytes.
	if err := w.trySay(); rpc.Reason(err) != "STORE_FULL" {
		w.t.Fatalf("on a full disk: %v", err)
	}
	w.must(os.Remove(filler))
	for deadline := time.Now().Add(stepTimeout); ; {
		err := w.trySay()
		if err == nil {
			break
		}
		if rpc.Reason(err) != "STORE_FULL" || time.Now().After(deadline) {
			w.t.Fatalf("once there is room: %v", err)
		}
	}
	// What was said meanwhile by others.
	ctx, cancel := w.context()
	defer cancel()
	if m, err := w.listener.Receive(ctx); err != nil || string(m.GetBody()) != w.kept[len(w.kept)-1] {
		w.t.Fatalf("the listener heard %.20q, %v", m.GetBody(), err)
	}
}

// trySay says something in a conversation of its own.
func (w *fixture) trySay() error {
	ctx, cancel := w.context()
	defer cancel()
	speaker := w.join(channel.JoinOptions{})
	defer speaker.Close()
	go func() {
		for {
			if _, err := speaker.Receive(ctx); err != nil {
				return
			}
		}
	}()
	w.number++
	body := fmt.Sprint(w.number, " by another")
	_, err := speaker.Send(ctx, []byte(body))
	if err == nil {
		w.kept = append(w.kept, body)
	}
	return err
}

// verify reads everything, as a participant that joins now.
func (w *fixture) verify() {
	w.t.Helper()
	if heard, damaged := w.readAll(); damaged || !slices.Equal(heard, w.kept) {
		w.t.Fatalf("a reader got %d messages, want %d; damage %t", len(heard), len(w.kept), damaged)
	}
}

// readAll reads all there is, also behind damage.
func (w *fixture) readAll() (heard []string, damaged bool) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	for options := (channel.JoinOptions{After: new(uint64(0))}); ; {
		v := w.join(options)
		v.Leave()
		var err error
		for err == nil {
			var m *quartetv1.ChannelMessage
			if m, err = v.Receive(ctx); err == nil {
				heard = append(heard, string(m.GetBody()))
			}
		}
		v.Close()
		switch {
		case errors.Is(err, channel.ErrLeft):
			return heard, damaged
		case rpc.Reason(err) == "DAMAGED":
			damaged, options = true, channel.JoinOptions{From: channel.First(err)}
		default:
			w.t.Fatalf("reading all: %v", err)
		}
	}
}

func isSubsequence(some, all []string) bool {
	for _, one := range all {
		if len(some) > 0 && some[0] == one {
			some = some[1:]
		}
	}
	return len(some) == 0
}
