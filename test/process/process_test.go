package process

import (
	"slices"
	"testing"

	"example.com/quartet"
)

func TestEnvironLacksWhatIsMeantForTheProgramsElsewhere(t *testing.T) {
	theirs, other := Setting("SERVER", "elsewhere:1"), "PROCESS_TEST=1"
	t.Setenv(quartet.Identity.EnvironmentPrefix()+"SERVER", "elsewhere:1")
	t.Setenv("PROCESS_TEST", "1")
	ours := Setting("LOG_FORMAT", "json")
	got := Environ(ours)
	if slices.Contains(got, theirs) || !slices.Contains(got, other) || !slices.Contains(got, ours) {
		t.Errorf("got %q", got)
	}
}
