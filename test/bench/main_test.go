package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain makes this test program its own children.
func TestMain(m *testing.M) {
	child, err := child(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if child {
		return
	}
	os.Exit(m.Run())
}

func TestBenchPrintsATableAndAVerdictOnEveryGoal(t *testing.T) {
	// The race detector would make every end of a process take a second.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	var out bytes.Buffer
	if err := bench(&out, []string{"-rounds", "1", "-slice", "5ms", "-run", "oneway"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 rounds of 5ms", "| bare again |", "| ours, sampling 100 % |", "messages/s",
		"oneway, 1 stream: ours, metrics only: rate at least 0.88 of bare: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Logf("printed\n%s", out.String())
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	for _, arguments := range [][]string{{"-run", "nonsense"}, {"-rounds", "0"}, {"-slice", "-1s"}} {
		var out bytes.Buffer
		if err := bench(&out, arguments); err == nil || out.Len() > 0 {
			t.Errorf("%v: error %v, printed %q", arguments, err, out.String())
		}
	}
}
