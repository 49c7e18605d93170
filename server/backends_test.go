package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.com/quartet/internal/telemetry"
)

// startNATS runs a broker outside of the server, on a free port if port is -1.
func startNATS(t *testing.T, dir string, port int) *nats.Server {
	t.Helper()
	broker, err := nats.NewServer(&nats.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go broker.Start()
	if !broker.ReadyForConnections(20 * time.Second) {
		t.Fatal("the broker does not start")
	}
	t.Cleanup(func() { stopNATS(broker) })
	return broker
}

func stopNATS(broker *nats.Server) {
	broker.Shutdown()
	broker.WaitForShutdown()
}

func TestBackendsThatGoAwayAndComeBackShow(t *testing.T) {
	dir, brokerDir := t.TempDir(), t.TempDir()
	broker := startNATS(t, brokerDir, -1)
	s := openServer(t, telemetry.Discard(), dir, "QUARTET_CHANNELS_URL="+broker.ClientURL())
	t.Cleanup(s.close)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.watchBackends(ctx, 10*time.Millisecond) }()
	ts := &testServer{server: s}
	allUp := map[string]float64{"backend_up{objects}": 1, "backend_up{channels}": 1}
	wantNumbers(t, ts, allUp)

	objects := filepath.Join(dir, "objects")
	rename(t, objects, objects+".away")
	if err := os.WriteFile(objects, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, ts, map[string]float64{"backend_up{objects}": 0, "backend_up{channels}": 1})
	rename(t, objects+".away", objects)
	wantNumbers(t, ts, allUp)

	port := broker.Addr().(*net.TCPAddr).Port
	stopNATS(broker)
	wantNumbers(t, ts, map[string]float64{"backend_up{objects}": 1, "backend_up{channels}": 0})
	startNATS(t, brokerDir, port)
	wantNumbers(t, ts, allUp)

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What the server closes itself when it drains has not gone away.
func TestBackendsAreNotAskedDuringADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Bool
		b := &backend{
			name: "channels", up: true, log: slog.New(slog.DiscardHandler), gauge: prometheus.NewGauge(prometheus.GaugeOpts{}),
			ask: func(context.Context) error {
				if closed.Load() {
					return errors.New("closed")
				}
				return nil
			},
		}
		b.gauge.Set(1)
		ctx, cancel := context.WithCancel(t.Context())
		draining, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(ended); watchUntil(ctx, draining, []*backend{b}, askInterval) }()
		time.Sleep(time.Minute)
		close(draining)
		synctest.Wait()
		closed.Store(true)
		time.Sleep(time.Minute)
		select {
		case <-ended:
			t.Error("the watch ended before the process did")
		default:
		}
		if up := testutil.ToFloat64(b.gauge); up != 1 {
			t.Errorf("up is %v", up)
		}
		cancel()
		<-ended
	})
}

// rename puts a file or a folder in the place of a file.
func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.Rename(from, to)); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyAChangeOfABackendIsLogged(t *testing.T) {
	var log strings.Builder
	var answer error
	b := &backend{
		name: "objects", up: true, log: slog.New(slog.NewTextHandler(&log, nil)),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{}), ask: func(context.Context) error { return answer },
	}
	for _, next := range []error{nil, errors.New("no route"), errors.New("no route"), nil, nil} {
		answer = next
		b.look(t.Context())
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "no route") {
		t.Errorf("logged:\n%s", &log)
	}
}

// A disk that hangs does not even notice that nobody waits for it any more.
func TestABackendThatHangsIsDownAndNotAskedAgainBeforeItHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		release := make(chan struct{})
		b := &backend{
			name: "objects", up: true, log: slog.New(slog.DiscardHandler), gauge: prometheus.NewGauge(prometheus.GaugeOpts{}),
			ask: func(context.Context) error { asked.Add(1); <-release; return nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.watch(ctx, askInterval) }()
		time.Sleep(time.Minute)
		if up := testutil.ToFloat64(b.gauge); up != 0 || asked.Load() != 1 {
			t.Errorf("up is %v after it was asked %d times", up, asked.Load())
		}
		close(release)
		time.Sleep(time.Minute)
		if up := testutil.ToFloat64(b.gauge); up != 1 || asked.Load() < 2 {
			t.Errorf("up is %v after it was asked %d times", up, asked.Load())
		}
		cancel()
		<-done
	})
}
