package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMuxServesMetricsAndProfiles(t *testing.T) {
	mux := Discard().Mux()
	for path, want := range map[string]string{"/metrics": "# EOF", "/debug/pprof/": "goroutine"} {
		request := httptest.NewRequestWithContext(testContext(t), http.MethodGet, path, nil)
		request.Header.Set("Accept", "application/openmetrics-text")
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, request)
		if response.Code != http.StatusOK || !strings.Contains(response.Body.String(), want) {
			t.Errorf("%s: %d without %q", path, response.Code, want)
		}
	}
}

func TestAwaitScrapeEndsWithTheScrape(t *testing.T) {
	telemetry := Discard()
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan struct{})
	go func() {
		telemetry.AwaitScrape(ctx, time.Hour)
		close(done)
	}()
	mux := telemetry.Mux()
	for {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil))
		select {
		case <-done:
			cancel()
			return
		case <-ctx.Done():
			t.Fatal("a scrape was not noticed")
		default: // It does not wait yet.
		}
	}
}

func TestAwaitScrapeWaitsNoLongerThanItShould(t *testing.T) {
	began := time.Now()
	Discard().AwaitScrape(testContext(t), time.Millisecond)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("waited %v", took)
	}
}
