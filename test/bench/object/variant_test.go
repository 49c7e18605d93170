package object

import (
	"context"
	"strings"
	"testing"
	"time"
)

// bedOf is a bed for the time of a test, for slices of so many bytes.
func bedOf(t *testing.T, bytes int64) *bed {
	t.Helper()
	// The race detector would make every end of a process take a second.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	t.Setenv("TMPDIR", t.TempDir())
	b, err := makeBed(context.WithoutCancel(t.Context()), Options{Bytes: bytes})
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEveryVariantMovesExactlyTheBytes has the checksums of what came compared with those of what
// was sent, which is more than one block and no whole number of anything.
func TestEveryVariantMovesExactlyTheBytes(t *testing.T) {
	b := bedOf(t, mebi)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			if v.place == onS3 && b.gateway == nil {
				t.Skip("versitygw is not on the PATH")
			}
			p, err := b.start(context.WithoutCancel(t.Context()), v)
			if err != nil {
				t.Fatal(err)
			}
			for _, upload := range []bool{false, true} {
				s, err := p.measure(Load{Upload: upload, Transfers: 3, Bytes: 2*mebi + 12345, Check: true})
				if err != nil {
					t.Error(err)
				} else if s.Bytes != 3*(2*mebi+12345) || s.Took <= 0 || s.Client.CPU <= 0 || s.Server.CPU <= 0 {
					t.Errorf("upload %v: %+v", upload, s)
				}
			}
			if err := p.stop(); err != nil {
				t.Errorf("the two did not end cleanly: %v", err)
			}
		})
	}
	if b.collector.spans.Load() == 0 {
		t.Error("ours made no spans")
	}
}

func TestWithoutRoomInMemoryFilesAreOnDisk(t *testing.T) {
	b := bedOf(t, 1<<50)
	folder, err := b.folder(variant{name: oursFastName, place: onFast})
	if err != nil || b.isFast || !strings.HasPrefix(folder, b.disk) {
		t.Errorf("a petabyte is in %s: %v", folder, err)
	}
}

func TestWhatIsLostOrChangedIsNoticed(t *testing.T) {
	const bytes = mebi + 1
	job := Job{Bytes: bytes, Check: true}
	whole := sumOf(bytes)
	for name, test := range map[string]struct {
		sum  Sum
		want string
	}{
		"everything":   {whole, ""},
		"a byte less":  {Sum{bytes - 1, sumOf(bytes - 1).CRC}, "there came 1048576"},
		"another byte": {Sum{bytes, whole.CRC ^ 1}, "there came 1048577"},
	} {
		err := job.confirm(test.sum)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Job{Bytes: bytes}).confirm(Sum{Bytes: bytes}); err != nil {
		t.Errorf("without a checksum: %v", err)
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

// TestTablesNameTheirContestants measures every goal by samples of contestants that are there,
// which are all alike.
func TestTablesNameTheirContestants(t *testing.T) {
	for _, p := range parts(256 * mebi) {
		for _, table := range p.tables {
			r := results{}
			for _, c := range table.contestants {
				if _, err := variantNamed(c.variant); err != nil || r[c.name] != nil {
					t.Errorf("%s: %s is there twice, or %v", table.title, c.name, err)
				}
				side := Side{CPU: time.Second, Grown: mebi}
				r[c.name] = []Sample{
					{Bytes: c.Bytes * int64(c.Transfers), Took: time.Second, Client: side, Server: side},
				}
			}
			if !table.memory && r[table.base] == nil {
				t.Errorf("%s: its base is not there", table.title)
			}
			for _, g := range table.goals {
				if verdict := g.Verdict(r); strings.Contains(verdict, "NaN") {
					t.Errorf("%s: %s", table.title, verdict)
				}
			}
		}
	}
}
