package cost

import (
	"context"
	"testing"
	"time"
)

// pairOf starts the two processes of a variant, and ends them when the test has ended.
func pairOf(t *testing.T, v variant) *pair {
	t.Helper()
	// The race detector would make every end of a process take a second.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	p, err := start(context.WithoutCancel(t.Context()), v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("a child did not end cleanly: %v", err)
		}
	})
	return p
}

func TestEveryVariantDoesEveryPart(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			p := pairOf(t, v)
			for _, part := range parts {
				load := part.loads[len(part.loads)-1]
				load.Part, load.For = part.name, 10*time.Millisecond
				s, err := p.measure(load)
				if err != nil {
					t.Fatal(err)
				}
				if s.Done == 0 || s.Took < load.For || s.Used.Mallocs == 0 || s.Server.Mallocs == 0 {
					t.Errorf("%s: %+v", part.name, s)
				}
				if waits := part.name == "unary" || part.name == "stream"; waits != (s.P50 > 0) || s.P99 < s.P50 {
					t.Errorf("%s: half of all took %s, nearly all %s", part.name, s.P50, s.P99)
				}
			}
		})
	}
}

// countsOf are the counts of both sides, once they agree. The server counts after it has answered.
func countsOf(t *testing.T, p *pair) (server, client Counts) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		server, client, err := p.counts()
		if err != nil {
			t.Fatal(err)
		}
		if server == client || time.Now().After(end) {
			return server, client
		}
	}
}

// TestInstrumentsAreOn makes unary calls, and expects that each was counted by both sides, and
// sampled as the variant says.
func TestInstrumentsAreOn(t *testing.T) {
	none, tenth, all := [2]float64{0, 0}, [2]float64{0.01, 0.3}, [2]float64{1, 1}
	for name, want := range map[string]struct {
		counted bool
		sampled [2]float64 // least and greatest share
	}{
		bareName:        {false, none},
		controlName:     {false, none},
		oursMetricsName: {true, none},
		oursTenthName:   {true, tenth},
		oursAllName:     {true, all},
		usualTenthName:  {true, tenth},
		usualAllName:    {true, all},
		gapsName:        {false, none},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := variantNamed(name)
			if err != nil {
				t.Fatal(err)
			}
			p := pairOf(t, v)
			var calls int64
			for calls < 300 { // Of so many a tenth is surely between the bounds.
				s, err := p.measure(Load{Part: "unary", Workers: 1, For: 20 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				calls += s.Done
			}
			server, client := countsOf(t, p)
			if counted := server.Calls == calls && client.Calls == calls; counted != want.counted {
				t.Errorf("of %d calls the server counted %d, the client %d", calls, server.Calls, client.Calls)
			}
			share := float64(client.Spans) / float64(calls)
			if share < want.sampled[0] || share > want.sampled[1] || server.Spans != client.Spans {
				t.Errorf("of %d calls the client has %d spans, the server %d", calls, client.Spans, server.Spans)
			}
		})
	}
}

// TestTheGapHistogramAloneIsOurs expects that the variant with nothing but gaps observes exactly
// those that ours does.
func TestTheGapHistogramAloneIsOurs(t *testing.T) {
	for _, part := range []part{stream, oneway, transfer} {
		t.Run(part.name, func(t *testing.T) {
			for _, name := range []string{oursMetricsName, gapsName} {
				v, err := variantNamed(name)
				if err != nil {
					t.Fatal(err)
				}
				p := pairOf(t, v)
				load := part.loads[0]
				load.Part, load.For = part.name, time.Millisecond
				var want int64 // one less than messages, in each stream
				for want == 0 {
					s, err := p.measure(load)
					if err != nil {
						t.Fatal(err)
					}
					streams := int64(1)
					if load.Chunk > 0 {
						streams = s.Done / int64(transferBytes/load.Chunk)
					}
					want += max(0, s.Done-streams)
				}
				server, client := countsOf(t, p)
				if server.Gaps != want || client.Gaps != want {
					t.Errorf("%s: of %d gaps the server observed %d, the client %d", name, want, server.Gaps, client.Gaps)
				}
			}
		})
	}
}

func TestAChildOfNoVariantIsAnError(t *testing.T) {
	if is, err := Child([]string{serverRole, "nonsense"}); !is || err == nil {
		t.Errorf("child %v, error %v", is, err)
	}
	if is, err := Child([]string{"-rounds", "3"}); is || err != nil {
		t.Errorf("child %v, error %v", is, err)
	}
}
