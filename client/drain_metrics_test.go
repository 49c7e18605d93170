package main

import (
	"context"
	"strings"
	"testing"
)

// TestADrainIsSeenInTheMetrics drains a client that waits for its last scrape, which is the one that looks.
func TestADrainIsSeenInTheMetrics(t *testing.T) {
	c := &console{environ: []string{
		"QUARTET_LOG_FORMAT=json", "QUARTET_HTTP_ADDRESS=127.0.0.1:0", "QUARTET_PROBE_ADDRESS=127.0.0.1:0",
		"QUARTET_DRAIN_DELAY=0s", "QUARTET_DRAIN_SCRAPE_WAIT=10s",
	}}
	ctx, terminate := context.WithCancel(t.Context())
	exit := make(chan int, 1)
	go func() { exit <- c.run(ctx, reserve(t), "serve") }()
	metrics := "http://" + c.listening(t).HTTP + "/metrics"
	want(t, fetch(t, metrics), "quartet_draining 0\n")
	want(t, fetch(t, metrics), "quartet_drain_seconds 0\n")
	terminate()
	<-c.err.await(`"step":"connections"`) // The step before the last scrape.
	text := fetch(t, metrics)
	want(t, text, "quartet_draining 1\n")
	if strings.Contains(text, "quartet_drain_seconds 0\n") || strings.Contains(text, "quartet_drain_limit_seconds 0\n") {
		t.Error("the drain takes no time, or may take none")
	}
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
