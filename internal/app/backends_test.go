package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestOnlyAChangeOfABackendIsLogged(t *testing.T) {
	var log strings.Builder
	var answer error
	var health []bool
	b := &backend{
		name:    "store",
		up:      true,
		serving: func(up bool) { health = append(health, up) },
		log:     slog.New(slog.NewTextHandler(&log, nil)),
		gauge: prometheus.NewGauge(
			prometheus.GaugeOpts{},
		),
		check: func(context.Context) error { return answer },
	}
	for _, next := range []error{nil, errors.New("no route"), errors.New("no route"), nil, nil} {
		answer = next
		b.look(t.Context())
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 ||
		!strings.Contains(log.String(), "no route") {
		t.Errorf("logged:\n%s", &log)
	}
	if !slices.Equal(health, []bool{false, true}) {
		t.Errorf("clients were told of %v", health)
	}
}

// A disk that hangs does not notice that nothing waits for it any more.
func TestABackendThatHangsIsDownAndNotAskedAgainBeforeItHasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		release := make(chan struct{})
		b := &backend{
			name:    "store",
			up:      true,
			serving: func(bool) {},
			log:     slog.New(slog.DiscardHandler),
			gauge:   prometheus.NewGauge(prometheus.GaugeOpts{}),
			check:   func(context.Context) error { asked.Add(1); <-release; return nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.watch(ctx, checkInterval) }()
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
