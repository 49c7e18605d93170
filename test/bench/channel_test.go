package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestBenchMeasuresMessages(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	var out bytes.Buffer
	arguments := []string{"-message-rounds", "1", "-messages", "3", "-participants", "4", "-silent", "60",
		"-run", "messages,large-channel,silent"}
	if err := bench(&out, arguments); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 rounds of 3", "| a publication by nats.go to a consumer |",
		"messages: ours, on two replicas: p99 at most 2.00 of a publication by nats.go to a consumer: ",
		"large-channel: to 4 participants: p50 at most 3.00 of to one participant: ",
		"silent: memory at most 512 MiB: ", "with 60 silent participants: p99 at most 1.20 of idle: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Logf("printed\n%s", out.String())
	}
}

func TestBenchRefusesMessagesThatItCannotMeasure(t *testing.T) {
	for _, arguments := range [][]string{{"-messages", "0"}, {"-silent", "0"}, {"-message-rounds", "0"}} {
		var out bytes.Buffer
		if err := bench(&out, arguments); err == nil || out.Len() > 0 {
			t.Errorf("%v: error %v, printed %q", arguments, err, out.String())
		}
	}
}
