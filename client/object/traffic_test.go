package object

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
	"example.com/quartet/internal/traffic/traffictest"
)

const trafficBytes = 100_000

// newTraffic starts a fake and makes the traffic that calls it.
func newTraffic(t *testing.T, cfg Config) (*fake, traffic.Source) {
	t.Helper()
	f, address := startFake(t)
	cfg.Bytes = trafficBytes
	tele := telemetry.Discard()
	return f, cfg.traffic(cli.Connection{Conn: clienttest.Dial(t, tele, address, descriptor),
		Telemetry: tele, Instance: "test"})
}

func TestRightAnswersAreGood(t *testing.T) {
	_, source := newTraffic(t, Config{Lookups: 1})
	if err := source.SetUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GetObject", "DownloadObject", "UploadObject"} {
		for range 3 {
			if got := traffictest.Try(t, source, method); got != "good" {
				t.Errorf("%s is %s", method, got)
			}
		}
	}
}

func TestWrongAnswersAreBad(t *testing.T) {
	for _, test := range []struct {
		name, method string
		twist        func(*fake)
	}{
		{"size", "GetObject", func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetSizeBytes(o.GetSizeBytes() + 1) }
		}},
		{"crc", "GetObject", func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetCrc32C(o.GetCrc32C() ^ 1) }
		}},
		{"another object", "GetObject", func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetName("other") }
		}},
		{"a bit", "DownloadObject", func(f *fake) {
			f.twistBytes = func(b []byte) []byte { b[trafficBytes-1] ^= 1; return b }
		}},
		{"too short", "DownloadObject", func(f *fake) {
			f.twistBytes = func(b []byte) []byte { return b[:trafficBytes-1] }
		}},
		{"too long", "DownloadObject", func(f *fake) {
			f.twistBytes = func(b []byte) []byte { return append(b, 0) }
		}},
		{"order of bytes", "DownloadObject", func(f *fake) {
			f.twistBytes = func(b []byte) []byte { b[0], b[1000] = b[1000], b[0]; b[1]++; return b }
		}},
		{"crc", "UploadObject", func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetCrc32C(o.GetCrc32C() ^ 1) }
		}},
		{"size", "UploadObject", func(f *fake) {
			f.twistObject = func(o *quartetv1.Object) { o.SetSizeBytes(0) }
		}},
	} {
		t.Run(test.method+"/"+test.name, func(t *testing.T) {
			f, source := newTraffic(t, Config{Lookups: 1})
			if err := source.SetUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			test.twist(f)
			if got := traffictest.Try(t, source, test.method); got != "wrong" {
				t.Errorf("it is %s", got)
			}
		})
	}
}

func TestLostObjectIsBadOnce(t *testing.T) {
	_, source := newTraffic(t, Config{})
	for _, want := range []string{"bad", "good"} {
		if got := traffictest.Try(t, source, "GetObject"); got != want {
			t.Errorf("it is %s, expected %s", got, want)
		}
	}
}

func TestTrafficCountsAndCleansUp(t *testing.T) {
	f, source := newTraffic(t, Config{Lookups: 500, Downloads: 500, Uploads: 500})
	registry := prometheus.NewRegistry()
	running := traffic.New(traffic.Options{Timeout: 30 * time.Second, Registerer: registry,
		Log: slog.New(slog.DiscardHandler)}, source)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	done := make(chan error)
	go func() { done <- running.Run(ctx) }()
	apptest.Eventually(t, func() bool {
		counted := traffictest.Counted(t, registry)
		return counted["GetObject"][0] >= 5 && counted["DownloadObject"][0] >= 5 &&
			counted["UploadObject"][0] >= 5
	}, func() string { return fmt.Sprintf("counted %v", traffictest.Counted(t, registry)) })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	counted := traffictest.Counted(t, registry)
	for method, counts := range counted {
		if counts[0] < 5 || counts[1] > 0 {
			t.Errorf("%s: %v good, %v bad", method, counts[0], counts[1])
		}
	}
	if len(counted) != 3 {
		t.Errorf("counted %v", counted)
	}
	if len(f.objects) > 0 {
		t.Errorf("left behind: %v", f.objects)
	}
}

func TestContentIsReproducible(t *testing.T) {
	c := newContent(7, trafficBytes)
	all, err := io.ReadAll(c.reader())
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(c.reader(), all); err != nil {
		t.Error(err)
	}
	if other, _ := io.ReadAll(newContent(8, trafficBytes).reader()); bytes.Equal(all, other) {
		t.Error("two seeds give one content")
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Lookups: 5, Bytes: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]Config{
		"negative rate": {Lookups: -1, Bytes: 1},
		"huge rate":     {Uploads: 1e9, Bytes: 1},
		"no bytes":      {},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
