package telemetry

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"
)

// Mux serves /metrics, and /debug/pprof/ for whoever has to look inside. It is
// for a port that only operators reach.
func (t *Telemetry) Mux() *http.ServeMux {
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
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// AwaitScrape waits until /metrics of the Mux has been read once more, from its beginning, so that the last numbers of a
// process that drains are not lost. It waits no longer than given, and it is no failure if no scrape came.
func (t *Telemetry) AwaitScrape(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	t.awaiting.Store(true)
	select {
	case <-t.scraped:
	case <-ctx.Done():
	}
}
