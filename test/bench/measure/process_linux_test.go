package measure

import (
	"os"
	"testing"
	"time"
)

func TestCPUOfIsWhatTheProcessCountsItself(t *testing.T) {
	both := func() (seen, own time.Duration) {
		t.Helper()
		used, err := Used()
		if err != nil {
			t.Fatal(err)
		}
		if seen, err = CPUOf(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		return seen, used.CPU
	}
	before, began := both()
	after, own := before, began
	// However much wall time that takes beside others.
	for own-began < 50*time.Millisecond {
		after, own = both()
	}
	// The kernel keeps getrusage's in ticks on some machines.
	if after-before < 5*time.Millisecond || (after-own).Abs() > 30*time.Millisecond {
		t.Errorf("%s before, %s after, by its own count %s", before, after, own)
	}
	if _, err := CPUOf(1 << 22); err == nil {
		t.Error("a process that is not there used CPU time")
	}
}

func TestThePeakIsSeenAndReset(t *testing.T) {
	peak := func() int64 {
		n, err := PeakOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := ResetPeak(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	before := peak()
	large := make([]byte, 64<<20)
	for i := range large {
		large[i] = 1
	}
	if grown := peak() - before; grown < 60<<20 || grown > 80<<20 {
		t.Errorf("64 MiB are seen as %d bytes", grown)
	}
	if large[len(large)/2] != 1 {
		t.Error("lost")
	}
}
