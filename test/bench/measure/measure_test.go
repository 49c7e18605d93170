package measure

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestEveryContestantIsMeasuredOncePerRound(t *testing.T) {
	var order []int
	samples, err := Rounds(50, 5, func(contestant int) (int, error) {
		order = append(order, contestant)
		return len(order), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	orders := map[[5]int]bool{}
	for round := range slices.Chunk(order, 5) {
		orders[[5]int(round)] = true
		if got := slices.Sorted(slices.Values(round)); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
			t.Errorf("a round measured %v", got)
		}
	}
	if len(order) != 51*5 || len(orders) < 10 {
		t.Errorf("%d measurements in %d different orders, want 255 in many", len(order), len(orders))
	}
	for contestant, got := range samples {
		if len(got) != 50 || !slices.IsSorted(got) || got[0] <= 5 {
			t.Errorf("contestant %d has samples %v: want 50, in order, and none of the first round", contestant, got)
		}
	}
}

func TestRoundsEndWithTheFirstError(t *testing.T) {
	calls, failure := 0, errors.New("failure")
	_, err := Rounds(3, 2, func(int) (int, error) { calls++; return 0, failure })
	if !errors.Is(err, failure) || calls != 1 {
		t.Errorf("%v after %d calls, want the failure after one", err, calls)
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := Median(test.values); got != test.want {
			t.Errorf("median of %v is %v, want %v", test.values, got, test.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
}

func TestQuantile(t *testing.T) {
	values := make([]int, 200)
	for i := range values {
		values[i] = i + 1
	}
	for q, want := range map[float64]int{0: 1, 0.5: 100, 0.99: 198, 1: 200} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if Quantile([]int(nil), 0.5) != 0 {
		t.Error("the quantile of nothing is not zero")
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	// The machine became ten times slower after the first round; the ratio did not change.
	got := SpreadOf(Ratios([]float64{50, 5, 4}, []float64{100, 10, 10}))
	if want := (Spread{0.5, 0.4, 0.5}); got != want {
		t.Errorf("spread %v, want %v", got, want)
	}
	if got, want := got.String(), "0.500 [0.40–0.50]"; got != want {
		t.Errorf("printed as %s, want %s", got, want)
	}
}

func TestWhatChanceExplainsIsNotLess(t *testing.T) {
	for below, want := range map[int]bool{0: false, 5: false, 8: false, 9: true, 11: true} {
		ratios := append(slices.Repeat([]float64{0.9}, below), slices.Repeat([]float64{1.1}, 11-below)...)
		if got := Less(ratios); got != want {
			t.Errorf("below 1 in %d of 11 rounds: %v, want %v", below, got, want)
		}
	}
	if Less(slices.Repeat([]float64{1}, 11)) || Less(nil) {
		t.Error("equal is less")
	}
}

func TestChance(t *testing.T) {
	for _, test := range []struct {
		k, n int
		want float64
	}{{0, 4, 1}, {4, 4, 1. / 16}, {3, 4, 5. / 16}, {1, 1, 0.5}} {
		if got := chance(test.k, test.n); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("at least %d of %d: %v, want %v", test.k, test.n, got, test.want)
		}
	}
}

var sink [][]byte

func TestUsageCountsObjects(t *testing.T) {
	before, err := Used()
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		sink = append(sink, make([]byte, 100))
	}
	after, err := Used()
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Since(before); got.Mallocs < 1000 || got.Mallocs > 1200 || got.CPU < 0 {
		t.Errorf("a thousand objects are counted as %+v", got)
	}
}

func TestTableIsMarkdown(t *testing.T) {
	var out bytes.Buffer
	table := NewTable("a", "b")
	table.Add("1", "2")
	table.Print(&out)
	if want := "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"; out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestCircumstancesNameTheMachineAndTheVersions(t *testing.T) {
	var out bytes.Buffer
	PrintCircumstances(&out, "example.com/nothing")
	if got := out.String(); !strings.Contains(got, "cores: ") || !strings.Contains(got, "example.com/nothing unknown") {
		t.Errorf("printed\n%s", got)
	}
}
