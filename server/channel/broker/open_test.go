package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/quartet/internal/porttest"
)

func TestRestartOnTheSameFolderKeepsMessagesAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := openBroker(t, embeddedURL, Options{Dir: dir})
	sent := publishMany(t, before, "room", 50, 100)
	closeBroker(t, before)

	// With other options, as they may change between two starts.
	b := openBroker(t, embeddedURL,
		Options{Dir: dir, MaxBytes: 1 << 20, Retention: time.Hour, SyncAlways: true})
	s := subscribe(t, b, "room", &sent[20])
	if again := publish(t, b, "room", "many", "7", ""); !again.Duplicate || again.Sequence != sent[7] {
		t.Errorf("repeated after the restart: %+v", again)
	}
	next := publish(t, b, "room", "ann", "1", "").Sequence
	if next <= sent[49] {
		t.Errorf("sequence %d after %d", next, sent[49])
	}
	if got := sequencesOf(receive(t, s, 30)); !slices.Equal(got, append(sent[21:], next)) {
		t.Errorf("got %d", got)
	}
	info, err := b.stream.Info(testContext(t))
	if err != nil || info.Config.MaxBytes != 1<<20 || info.Config.MaxAge != time.Hour {
		t.Errorf("limits were not taken over: %+v, %v", info, err)
	}
}

func TestSecondBrokerOnAFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openBroker(t, embeddedURL, Options{Dir: dir})
	if _, err := Open(testContext(t), embeddedURL, Options{Dir: dir}); err == nil ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("second broker: %v", err)
	}
	publish(t, first, "room", "ann", "1", "")
	closeBroker(t, first)
	openBroker(t, embeddedURL, Options{Dir: dir})
}

func TestUnusableFolderIsNamedInTheError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	occupied := t.TempDir() // by something that the server cannot use
	if err := os.WriteFile(filepath.Join(occupied, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), occupied} {
		if _, err := Open(testContext(t), embeddedURL, Options{Dir: dir}); err == nil ||
			!strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := Open(testContext(t), embeddedURL, Options{}); err == nil {
		t.Error("no folder was accepted")
	}
}

func TestUnknownURLIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                                 "has no scheme",
		"http://user:secret@host":          "has another scheme than nats",
		"nats:4222":                        "has no scheme",
		"nats://":                          "has no host",
		"nats://user:secret@h:99999":       "no number from 1 to 65535",
		"nats://user:se/secret@h:4222":     "percent-encoded",
		"nats://h:4222/secret":             "behind the host",
		"nats://h:4222?secret":             "behind the host",
		"nats://a:1, nats://b:2":           "number 2 of its list has blanks",
		"nats://a:1,":                      "number 2 of its list has no scheme",
		"nats://a:1,,nats://b:1":           "number 2 of its list has no scheme",
		"nats://a:1,tls://b:1":             "number 2 of its list has another scheme",
		"nats://u:secret@a:1,nats://:4222": "number 2 of its list has no host",
		"'nats://a:1'":                     "quotes",
		"embedded:,nats://a:1":             "number 1 of its list",
	} {
		_, err := Open(testContext(t), url, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want %q", url, err, want)
		}
	}
	for _, url := range []string{"embedded:", "nats://h", "nats://h:4222/",
		"nats://user:pass@h:4222,nats://token@[::1]:4222", "NATS://h:1"} {
		if err := CheckURL(url); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestOpenWaitsForTheBrokerAndNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := porttest.Port(t)
	srv := startServer(t, dir, port)
	url := serverURL(srv)
	stopServer(srv)

	// Only an attempt that has failed gives a reason. The first one does after half a second.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var log strings.Builder
	_, err := Open(ctx, url, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("without a broker: %v", err)
	}
	if said := log.String(); strings.Count(said, "waiting for the message broker") != 1 ||
		!strings.Contains(said, "connection refused") {
		t.Errorf("logged:\n%s", said)
	}
	opened := make(chan *Broker)
	go func() {
		b, err := Open(testContext(t), url, Options{})
		if err != nil {
			t.Error(err)
		}
		opened <- b
	}()
	startServer(t, dir, port)
	if b := <-opened; b != nil {
		publish(t, b, "room", "ann", "1", "")
		closeBroker(t, b)
	}
}

func TestTheBrokerMayRestartWhileOpenWaitsForTheStream(t *testing.T) {
	t.Parallel()
	// Without JetStream there is no stream to be had.
	run := func(port int) *server.Server {
		srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopServer(srv) })
		go srv.Start()
		if !srv.ReadyForConnections(testTimeout) {
			t.Fatal("server does not start")
		}
		return srv
	}
	port := porttest.Port(t)
	opened := make(chan *Broker)
	go func() {
		b, err := Open(testContext(t), fmt.Sprint("nats://127.0.0.1:", port), Options{})
		if err != nil {
			t.Error(err)
		}
		opened <- b
	}()
	for range 2 {
		srv := run(port)
		eventually(t, "the server is asked for the stream", func() bool {
			seen, err := srv.Varz(nil)
			return err == nil && seen.InMsgs > 0
		})
		stopServer(srv)
	}
	startServer(t, t.TempDir(), port)
	if b := <-opened; b != nil {
		publish(t, b, "room", "ann", "1", "")
		s := subscribe(t, b, "room", pointer(0))
		receive(t, s, 1)
		s.Close()
		closeBroker(t, b)
	}
}

func TestTheEndOfAWaitIsNoReasonForIt(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(6*time.Second, cancel)
	var log strings.Builder
	_, err = Open(ctx, "nats://"+silent.Addr().String(),
		Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if said := log.String(); strings.Count(said, "waiting for the message broker") != 1 ||
		!strings.Contains(said, "timeout") {
		t.Errorf("logged:\n%s", said)
	}
}

func TestReplicasMayOpenAtOnceWithDifferentOptions(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	var tasks sync.WaitGroup
	for i := range 8 {
		tasks.Go(func() {
			b, err := Open(testContext(t), serverURL(srv), Options{MaxBytes: int64(1+i) << 30})
			if err != nil {
				t.Error(err)
				return
			}
			closeBroker(t, b)
		})
	}
	tasks.Wait()
}

func TestLimitsOfAnOperatorSurviveARestartButOurPromisesAreRestored(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	b := openBroker(t, serverURL(srv), Options{})
	cfg := b.stream.CachedInfo().Config
	cfg.MaxBytes, cfg.MaxAge, cfg.MaxMsgsPerSubject, cfg.RePublish = 5<<20, time.Hour, 10, nil
	if _, err := b.js.UpdateStream(testContext(t), cfg); err != nil {
		t.Fatal(err)
	}
	after := openBroker(t, serverURL(srv), Options{}).stream.CachedInfo().Config
	if after.MaxBytes != 5<<20 || after.MaxAge != time.Hour {
		t.Errorf("limits were undone: %+v", after)
	}
	if after.MaxMsgsPerSubject != -1 || after.RePublish == nil {
		t.Errorf("promises were not restored: %+v", after)
	}
	if err := b.stream.Purge(testContext(t)); err == nil {
		t.Error("a purge was possible, which would tear holes")
	}
}

func TestImpossibleOptionsAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	_, err := Open(testContext(t), serverURL(srv), Options{Replicas: 3})
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		t.Errorf("3 replicas on one server: %v", err)
	}
}

func TestStreamIsLeftAloneByAReplicaWithTheSameOptions(t *testing.T) {
	t.Parallel()
	srv := startServer(t, t.TempDir(), -1)
	openBroker(t, serverURL(srv), Options{})
	var log strings.Builder
	again := openBroker(t, serverURL(srv), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	have := again.stream.CachedInfo().Config
	want := have
	again.setPromises(&want)
	setLimits(&want, again.opts)
	if !reflect.DeepEqual(have, want) || log.Len() != 0 {
		t.Errorf("stream %+v, log %q", have, log.String())
	}
}
