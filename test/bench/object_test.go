package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestBenchMeasuresBigFiles(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	var out bytes.Buffer
	if err := bench(&out, []string{"-file-rounds", "1", "-file-mib", "2", "-run", "download,upload"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 rounds of 2 MiB", "**16 uploads at once, of 128 KiB each**", "| ours, folder on disk |",
		"download, 1 download of 2 MiB: ours, folder: rate at least 0.80 of net/http HTTP/1.1, file: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Logf("printed\n%s", out.String())
	}
}

func TestBenchRefusesFilesThatItCannotMeasure(t *testing.T) {
	for _, arguments := range [][]string{{"-file-rounds", "0"}, {"-file-mib", "0"}} {
		var out bytes.Buffer
		if err := bench(&out, arguments); err == nil || out.Len() > 0 {
			t.Errorf("%v: error %v, printed %q", arguments, err, out.String())
		}
	}
}
