package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMetricsAndProfilesAreServedApart(t *testing.T) {
	metrics, profiles := Discard().MetricsHandler(), ProfileHandler()
	for _, c := range []struct {
		handler http.Handler
		path    string
		code    int
		want    string
	}{
		{metrics, "/metrics", http.StatusOK, "# EOF"},
		{metrics, "/debug/pprof/", http.StatusNotFound, ""},
		{profiles, "/debug/pprof/", http.StatusOK, "goroutine"},
		{profiles, "/metrics", http.StatusNotFound, ""},
	} {
		request := httptest.NewRequestWithContext(testContext(t), http.MethodGet, c.path, nil)
		request.Header.Set("Accept", "application/openmetrics-text")
		response := httptest.NewRecorder()
		c.handler.ServeHTTP(response, request)
		if response.Code != c.code || !strings.Contains(response.Body.String(), c.want) {
			t.Errorf("%s: %d without %q", c.path, response.Code, c.want)
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
	mux := telemetry.MetricsHandler()
	for {
		mux.ServeHTTP(
			httptest.NewRecorder(),
			httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil),
		)
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
