package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"example.com/quartet/internal/config"
)

// TestADrainIsSeenInTheMetrics drains a server that waits for its last scrape, which is the one that looks.
func TestADrainIsSeenInTheMetrics(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := lis.Addr().String()
	_ = lis.Close() // The server takes it.
	cfg, err := config.Load[Config](environment(t.TempDir(), "QUARTET_HTTP_ADDRESS="+address, "QUARTET_DRAIN_SCRAPE_WAIT=30s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, terminate := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, cfg, false, &bytes.Buffer{}) }()
	scrapeUntil(t, address, "quartet_draining 0\n", "quartet_drain_seconds 0\n")
	terminate()
	text := scrapeUntil(t, address, "quartet_draining 1\n")
	if strings.Contains(text, "quartet_drain_seconds 0\n") || strings.Contains(text, "quartet_drain_limit_seconds 0\n") {
		t.Error("the drain takes no time, or may take none")
	}
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			_, _ = scrape(address) // One of them comes while the drain waits for it, and ends it.
		}
	}
}

// scrapeUntil reads the metrics until all parts are in them.
func scrapeUntil(t *testing.T, address string, parts ...string) (text string) {
	t.Helper()
	eventually(t, func() bool {
		text, _ = scrape(address)
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	}, func() string { return strings.Join(parts, " and ") + " are not in the metrics:\n" + text })
	return text
}

func scrape(address string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
