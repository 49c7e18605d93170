package cli

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// transferred shows a transfer of 10 s, ten chunks a second, and returns what was shown.
func transferred(t *testing.T, c *command) string {
	t.Helper()
	var text strings.Builder
	c.stderr.to = &text
	synctest.Test(t, func(*testing.T) {
		p := (&Terminal{command: c}).NewProgress("downloading", false)
		for i := range int64(100) {
			time.Sleep(100 * time.Millisecond)
			p.Update((i+1)<<20, (i+1)<<20, 100<<20, int(i/40))
		}
		p.End(`downloaded "x"`)
	})
	return text.String()
}

func TestProgressInLines(t *testing.T) {
	const want = `downloading 20.0 MiB of 100.0 MiB (20%), 10.0 MiB/s, 8s left
downloading 40.0 MiB of 100.0 MiB (40%), 10.0 MiB/s, 6s left
downloading 60.0 MiB of 100.0 MiB (60%), 10.0 MiB/s, 4s left, 1 resume
downloading 80.0 MiB of 100.0 MiB (80%), 10.0 MiB/s, 2s left, 1 resume
downloading 100.0 MiB of 100.0 MiB (100%), 10.0 MiB/s, 0s left, 2 resumes
downloaded "x": 100.0 MiB in 10s, 10.0 MiB/s, 2 resumes
`
	if got := transferred(t, &command{stderr: &screen{}}); got != want {
		t.Errorf("got:\n%s", got)
	}
	if got := transferred(t, &command{stderr: &screen{}, quiet: true}); got != "" {
		t.Errorf("not quiet: %s", got)
	}
}

func TestProgressInABar(t *testing.T) {
	got := transferred(t, &command{stderr: &screen{width: func() int { return 60 }}})
	frames := strings.Split(got, clearLine)
	if len(frames) != 102 { // Nothing, 100 bars, and the end.
		t.Errorf("%d frames", len(frames))
	}
	if want := "[========        ] 50.0 MiB of 100.0 MiB (50%), 10.0 MiB/s,"; frames[50] != want {
		t.Errorf("half way: %q", frames[50])
	}
	if last := frames[len(frames)-1]; last != "downloaded \"x\": 100.0 MiB in 10s, 10.0 MiB/s, 2 resumes\n" {
		t.Errorf("at the end: %q", last)
	}
}

func TestProgressOfUnknownSizeAndContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		p := (&Terminal{command: &command{stderr: &screen{to: &text}}}).NewProgress("uploading", true)
		p.Update(50<<20, 50<<20, -1, 0)
		time.Sleep(2 * time.Second)
		p.Update(54<<20, 54<<20, -1, 0)
		if want := "uploading 54.0 MiB, 2.0 MiB/s\n"; text.String() != want {
			t.Errorf("got %q", text.String())
		}
	})
}
