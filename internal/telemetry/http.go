package telemetry

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"
)

// MetricsHandler serves /metrics.
func (t *Telemetry) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	metrics := t.Handler()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		last := t.awaiting.Load() // A scrape that began earlier has older numbers.
		metrics.ServeHTTP(w, r)
		if last {
			select {
			case t.scraped <- struct{}{}:
			default: // Another scrape was the last.
			}
		}
	})
	return mux
}

// ProfileHandler serves /debug/pprof/, which shows memory and command line, and can keep the
// process busy: it is for an address that only operators reach.
func ProfileHandler() http.Handler {
	mux := http.NewServeMux()
	// Index also serves the profiles by name, such as /debug/pprof/heap.
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// AwaitScrape waits until /metrics has been read once more, from its beginning, so that the last
// numbers of a process that drains are not lost. It waits no longer than given, and it is no
// failure if no scrape came.
func (t *Telemetry) AwaitScrape(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	// From here on a scrape that begins counts. One that is under way has older numbers.
	t.awaiting.Store(true)
	select {
	case <-t.scraped:
	case <-ctx.Done():
	}
}
