package broker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/quartet/internal/telemetry/telemetrytest"
)

// small keeps about ten messages of the size that these tests use, of channels below shop/.
var small = []Prefix{{"shop/", time.Hour, 640 << 10}}

func openAll(t *testing.T, url string, opts Options, prefixes []Prefix) *Brokers {
	t.Helper()
	bs, err := OpenAll(testContext(t), url, opts, prefixes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, bs) })
	return bs
}

func closeAll(t *testing.T, bs *Brokers) {
	t.Helper()
	if err := bs.Close(testContext(t)); err != nil {
		t.Error(err)
	}
}

// testStores runs a test with the embedded server, and with one as in a cluster.
func testStores(t *testing.T, test func(*testing.T, string, Options)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, embeddedURL, Options{Dir: t.TempDir(), SyncAlways: true})
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		test(t, serverURL(startServer(t, t.TempDir(), -1)), Options{})
	})
}

func TestAFloodBelowAPrefixErasesNoOtherHistory(t *testing.T) {
	t.Parallel()
	testStores(t, func(t *testing.T, url string, opts Options) {
		bs := openAll(t, url, opts, append(small, Prefix{"press/", time.Hour, 1 << 20}))
		var sent [][]uint64
		kept := []string{"lobby", "press/news", "shopping"}
		for _, channel := range kept {
			sent = append(sent, publishMany(t, bs.Of(channel), channel, 3, 10))
		}
		flood := publishMany(t, bs.Of("shop/flood"), "shop/flood", many, size)
		for i, channel := range kept {
			s := subscribe(t, bs.Of(channel), channel, &sent[i][0])
			if got := sequencesOf(receive(t, s, 2)); !slices.Equal(got, sent[i][1:]) {
				t.Errorf("%s: got %d, want %d", channel, got, sent[i][1:])
			}
		}
		if _, err := bs.Of("shop/flood").Subscribe(testContext(t), "shop/flood",
			startAfter(&flood[0])); !errors.Is(err, ErrSequenceGone) {
			t.Errorf("the flood has not passed its own limit: %v", err)
		}
		if err := bs.Check(testContext(t)); err != nil {
			t.Error(err)
		}
	})
}

func TestTheLongestPrefixWins(t *testing.T) {
	t.Parallel()
	bs := openAll(t, embeddedURL, Options{Dir: t.TempDir()}, []Prefix{
		{"a/b/", time.Hour, 1 << 20}, {"a", time.Hour, 1 << 20}, {"A", time.Hour, 1 << 20},
		{"a/", time.Hour, 1 << 20}})
	for channel, want := range map[string]string{
		"a/b/c": "a/b/", "a/b/": "a/b/", "a/b": "a/", "a/": "a/", "ab": "a", "a": "a", "A/b/": "A",
		"b": "", "": "", "/a": "",
	} {
		if got := bs.Of(channel).opts.Prefix; got != want {
			t.Errorf("%q is below %q, want %q", channel, got, want)
		}
	}
}

// TestARestartKeepsEachHistory also expects that each stream follows its own limits.
func TestARestartKeepsEachHistory(t *testing.T) {
	t.Parallel()
	testStores(t, func(t *testing.T, url string, opts Options) {
		bs := openAll(t, url, opts, small)
		channels := []string{"lobby", "shop/a", "shop/%2F.*"}
		positions := make([]Position, len(channels))
		for i, channel := range channels {
			publish(t, bs.Of(channel), channel, "ann", "1", "before")
			positions[i] = subscribe(t, bs.Of(channel), channel, nil).After()
			publish(t, bs.Of(channel), channel, "ann", "2", "after "+channel)
		}
		closeAll(t, bs)
		bs = openAll(t, url, opts, small)
		for i, channel := range channels {
			s, err := bs.Of(channel).Subscribe(testContext(t), channel, Start{After: &positions[i]})
			if err != nil {
				t.Fatal(channel, err)
			}
			t.Cleanup(s.Close)
			if m := receive(t, s, 1)[0]; string(m.Body) != "after "+channel {
				t.Errorf("%s: got %q", channel, m.Body)
			}
			if again := publish(t, bs.Of(channel), channel, "ann", "2", ""); !again.Duplicate {
				t.Errorf("%s: a repeated message was kept twice", channel)
			}
		}
		for channel, want := range map[string]int64{"lobby": 1 << 30, "shop/a": 640 << 10} {
			info, err := bs.Of(channel).stream.Info(testContext(t))
			if err != nil || info.Config.MaxBytes != want {
				t.Errorf("%s: %+v, %v", channel, info.Config, err)
			}
		}
	})
}

// TestAPositionOfOneStreamIsRefusedInAnother is what happens when a prefix is configured or
// removed: the channel is in another stream then, and may have a message with the same sequence
// there.
func TestAPositionOfOneStreamIsRefusedInAnother(t *testing.T) {
	t.Parallel()
	testStores(t, func(t *testing.T, url string, opts Options) {
		for _, prefixes := range [][]Prefix{nil, small, nil} {
			bs := openAll(t, url, opts, prefixes)
			b := bs.Of("shop/a")
			publish(t, b, "shop/a", "ann", b.history(), "")
			at := subscribe(t, b, "shop/a", nil).After()
			closeAll(t, bs)
			other := small
			if prefixes != nil {
				other = nil
			}
			bs = openAll(t, url, opts, other)
			publish(t, bs.Of("shop/a"), "shop/a", "ann", "other", "")
			if _, err := bs.Of("shop/a").Subscribe(testContext(t), "shop/a",
				Start{After: &at}); !errors.Is(err, ErrHistoryChanged) {
				t.Errorf("from %v to %v: %v", prefixes, other, err)
			}
			closeAll(t, bs)
		}
	})
}

func TestReplicasShareTheChannelsOfAPrefix(t *testing.T) {
	t.Parallel()
	url := serverURL(startServer(t, t.TempDir(), -1))
	here, there := openAll(t, url, Options{}, small), openAll(t, url, Options{}, small)
	s := subscribe(t, there.Of("shop/a"), "shop/a", nil)
	sent := publishMany(t, here.Of("shop/a"), "shop/a", 100, 10)
	if got := sequencesOf(receive(t, s, 100)); !slices.Equal(got, sent) {
		t.Errorf("got %d", got)
	}
	if again := publish(t, there.Of("shop/a"), "shop/a", "many", "5", ""); again.Sequence != sent[5] {
		t.Errorf("repeated at the other replica: %+v", again)
	}
	// As with the stream of all others, the limits of an existing one are the operator's.
	var log telemetrytest.Log
	openAll(t, url, Options{Log: slog.New(slog.NewTextHandler(&log, nil))},
		[]Prefix{{"shop/", time.Hour, 1 << 30}})
	info, err := here.Of("shop/a").stream.Info(testContext(t))
	if err != nil || info.Config.MaxBytes != 640<<10 {
		t.Errorf("%+v, %v", info, err)
	}
	if text := log.String(); !strings.Contains(text, "keeps them") ||
		!strings.Contains(text, "BROKER_CHANNELS-shop%2F") {
		t.Errorf("the log says %s", text)
	}
}

// TestAStoreThatIsFullEndsNoOtherConversation has the stream of a prefix refuse messages.
func TestAStoreThatIsFullEndsNoOtherConversation(t *testing.T) {
	t.Parallel()
	url := serverURL(startServer(t, t.TempDir(), -1))
	bs := openAll(t, url, Options{}, small)
	full, other := bs.Of("shop/a"), bs.Of("lobby")
	s := subscribe(t, other, "lobby", nil)
	config := full.streamConfig()
	config.Discard = jetstream.DiscardNew
	if _, err := full.js.UpdateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	var told error
	n := 0
	// Check tries with a message that is smaller than any other, and may have room longer.
	eventually(t, "there is no room", func() bool {
		_, err := full.Publish(testContext(t), "shop/a",
			Message{Participant: "ann", ID: fmt.Sprint(n), Body: make([]byte, 1<<10)})
		n++
		told = bs.Check(testContext(t))
		return errors.Is(err, ErrStoreFull) && told != nil
	})
	if !errors.Is(told, ErrStoreFull) || !strings.Contains(told.Error(), `"shop/…"`) {
		t.Errorf("Check: %v", told)
	}
	publish(t, other, "lobby", "ann", "1", "")
	receive(t, s, 1)
}

// TestSeveralStreamsHaveTheBoundsOfOne fills each bound from more than one stream.
func TestSeveralStreamsHaveTheBoundsOfOne(t *testing.T) {
	t.Parallel()
	bs := openAll(t, embeddedURL, Options{Dir: t.TempDir(), MaxChannels: 3, MaxKept: 3},
		[]Prefix{{"shop/", time.Hour, 64 << 20}, {"press/", time.Hour, 64 << 20}})
	m := bs.all[0].memory
	channels := []string{"lobby", "shop/a", "press/a"}
	subscriptions := make([]*Subscription, len(channels))
	for i, channel := range channels {
		subscriptions[i] = subscribe(t, bs.Of(channel), channel, nil)
		publishMany(t, bs.Of(channel), channel, 100, size)
		// Until it asks the stream, a Broker counts the first messages of a channel as several channels.
		if err := bs.Check(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	// A channel that is silent for a while has no ring any more, so it speaks before each look.
	said := 0
	eventually(t, "what the rings of all have is counted together", func() bool {
		said++
		sum, empty := int64(0), false
		for _, channel := range channels {
			publish(t, bs.Of(channel), channel, "ann", strconv.Itoa(said), "")
		}
		for _, channel := range channels {
			h := bs.Of(channel).hubOf(escape(channel))
			h.mu.Lock()
			sum, empty = sum+int64(h.bytes), empty || h.bytes == 0
			h.mu.Unlock()
		}
		return !empty && sum == m.rings.Load()
	})
	for _, s := range subscriptions {
		receive(t, s, 100)
	}
	if _, err := bs.Of("shop/b").Subscribe(testContext(t), "shop/b", Start{}); !errors.Is(err,
		ErrTooManyChannels) {
		t.Errorf("a fourth open channel: %v", err)
	}
	if _, err := bs.Of("shop/b").Publish(testContext(t), "shop/b",
		Message{Participant: "ann", ID: "1"}); !errors.Is(err, ErrTooManyKept) {
		t.Errorf("a fourth channel with messages: %v", err)
	}
	// One caller that has stalled readers in one stream gets nothing more in another.
	var stalled []*Subscription
	for i := range batchesBytes / 2 / batchRoom {
		channel := channels[i%len(channels)]
		s, err := bs.Of(channel).Subscribe(testContext(t), channel,
			Start{After: &Position{}, Reader: "greedy"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		receive(t, s, 1)
		stalled = append(stalled, s)
	}
	s, err := bs.Of("lobby").Subscribe(testContext(t), "lobby",
		Start{After: &Position{}, Reader: "greedy"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	expectNone(t, s)
	for _, s := range slices.Concat(stalled, subscriptions) {
		s.Close()
	}
	receive(t, s, 1)
	s.Close()
	if m.rings.Load() != 0 || m.channels.Load() != 0 {
		t.Errorf("%d bytes in rings of %d channels when all are closed", m.rings.Load(),
			m.channels.Load())
	}
}

func TestAFolderOfAPrefixThatIsNotConfiguredIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeAll(t, openAll(t, embeddedURL, Options{Dir: dir}, small))
	folder := filepath.Join(dir, "prefix-shop%2F")
	if _, err := os.Stat(filepath.Join(folder, "jetstream")); err != nil {
		t.Fatal(err)
	}
	for told, prefixes := range map[bool][]Prefix{true: nil, false: small} {
		var log bytes.Buffer
		closeAll(t, openAll(t, embeddedURL,
			Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))}, prefixes))
		if strings.Contains(log.String(), folder) != told {
			t.Errorf("with %v the log says %s", prefixes, &log)
		}
	}
}

func TestNamesOfThePrefixesFitNATSAndDoNotOverlap(t *testing.T) {
	t.Parallel()
	url := serverURL(startServer(t, t.TempDir(), -1))
	var prefixes []Prefix
	for _, name := range []string{"shop/", "shop", "SHOP/", "shop%2F", "a.b.*", ">", "é ", "-",
		strings.Repeat("\U0001F600", maxPrefix/4)} {
		if err := CheckPrefix(name); err != nil {
			t.Error(err)
		}
		prefixes = append(prefixes, Prefix{name, time.Hour, 1 << 20})
	}
	bs := openAll(t, url, Options{}, prefixes)
	for _, p := range prefixes {
		channel := p.Name + "room"
		b := bs.Of(channel)
		s := subscribe(t, b, channel, nil)
		publish(t, b, channel, "ann", "1", p.Name)
		if m := receive(t, s, 1)[0]; string(m.Body) != p.Name || m.Sequence != 1 {
			t.Errorf("%q: got %+v", p.Name, m)
		}
	}
	for _, name := range []string{"", "a\n", "\xff", strings.Repeat("a", maxPrefix+1)} {
		if CheckPrefix(name) == nil {
			t.Errorf("%q is a prefix", name)
		}
	}
}

// TestPrefixesTakeTheirBlocksFromThePartOfTheMemoryLimit is not parallel: the limit is the
// process's.
func TestPrefixesTakeTheirBlocksFromThePartOfTheMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
	var prefixes []Prefix
	for i := range 8 {
		burst := newMemory(true, Options{DedupWindow: time.Minute}, 1+i).pace.bytes.Burst()
		if want := (64 - 8*i) << 20 / 2; burst != want {
			t.Errorf("with %d prefixes %d bytes at once, want %d", i, burst, want)
		}
		prefixes = append(prefixes, Prefix{fmt.Sprint(i), time.Hour, 1 << 20})
	}
	openAll(t, embeddedURL, Options{Dir: t.TempDir()}, prefixes[:7])
	bs, err := OpenAll(testContext(t), embeddedURL, Options{Dir: t.TempDir()}, prefixes)
	if err == nil || !strings.Contains(err.Error(),
		"8 prefixes need a memory limit (GOMEMLIMIT) of 288 MiB") {
		t.Errorf("got %v, %v", bs, err)
	}
	openAll(t, serverURL(startServer(t, t.TempDir(), -1)), Options{}, prefixes)
}

// TestTheDocumentedPermissionsSuffice has a user with those of docs/services/channel.md, where the
// product is called broker.
func TestTheDocumentedPermissionsSuffice(t *testing.T) {
	t.Parallel()
	publishing := []string{"broker.channel.*", "broker.channel.*.*"}
	for _, stream := range []string{"BROKER_CHANNELS", "BROKER_CHANNELS-shop%2F"} {
		for _, api := range []string{"STREAM.INFO.%s", "STREAM.CREATE.%s", "STREAM.UPDATE.%s",
			"STREAM.MSG.GET.%s", "DIRECT.GET.%s", "CONSUMER.CREATE.%s.>", "CONSUMER.DELETE.%s.*",
			"CONSUMER.MSG.NEXT.%s.*"} {
			publishing = append(publishing, "$JS.API."+fmt.Sprintf(api, stream))
		}
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publishing},
			Subscribe: &server.SubjectPermission{
				Allow: []string{"broker.live.*", "broker.live.*.*", "_INBOX.>"},
			},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	if !srv.ReadyForConnections(testTimeout) {
		t.Fatal("server does not start")
	}
	t.Cleanup(func() { stopServer(srv) })
	var log telemetrytest.Log
	bs := openAll(t, fmt.Sprint("nats://u:p@", srv.Addr()),
		Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, []Prefix{{"shop/", time.Hour, 1 << 30}})
	for _, channel := range []string{"lobby", "shop/a"} {
		b := bs.Of(channel)
		b.consumers.worthwhile = 1 // So that a consumer is created.
		s := subscribe(t, b, channel, nil)
		sent := publishMany(t, b, channel, 2*batchMessages, 10)
		receive(t, s, len(sent))
		receive(t, subscribe(t, b, channel, pointer(0)), len(sent))
	}
	if err := bs.Check(testContext(t)); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, "ermissions") { // Of what a busy machine drops it warns too.
		t.Error(text)
	}
}
