package measure

import "fmt"

// Metric is a number that a sample has.
type Metric[S any] struct {
	Name string
	Of   func(S) float64
}

// Results are the samples of each contestant, in the order of the rounds.
type Results[S any] map[string][]S

func (r Results[S]) series(contestant string, m Metric[S]) []float64 {
	var values []float64
	for _, sample := range r[contestant] {
		values = append(values, m.Of(sample))
	}
	return values
}

// Median is the middle of what a contestant has of a metric.
func (r Results[S]) Median(contestant string, m Metric[S]) float64 {
	return Median(r.series(contestant, m))
}

// Ratios are what a contestant has of another's metric, round by round.
func (r Results[S]) Ratios(of, to string, m Metric[S]) []float64 {
	return Ratios(r.series(of, m), r.series(to, m))
}

// Goal is something that results have to show.
type Goal[S any] struct {
	Text    string
	Measure func(Results[S]) (measured string, met bool)
}

// AtLeast wants so much of another contestant's metric, in the middle of the rounds.
func AtLeast[S any](of, to string, m Metric[S], limit float64) Goal[S] {
	return Goal[S]{fmt.Sprintf("%s: %s at least %.2f of %s", of, m.Name, limit, to), func(r Results[S]) (string, bool) {
		ratio := SpreadOf(r.Ratios(of, to, m))
		return ratio.String(), ratio.Median >= limit
	}}
}

// AtMost wants no more of another contestant's metric, in the middle of the rounds.
func AtMost[S any](of, to string, m Metric[S], limit float64) Goal[S] {
	return Goal[S]{fmt.Sprintf("%s: %s at most %.2f of %s", of, m.Name, limit, to), func(r Results[S]) (string, bool) {
		ratio := SpreadOf(r.Ratios(of, to, m))
		return ratio.String(), ratio.Median <= limit
	}}
}

// Stretched marks a goal that is beyond what has to be.
func (g Goal[S]) Stretched() Goal[S] {
	g.Text += " (stretch)"
	return g
}

// Verdict is the goal, what was measured, and whether that is enough.
func (g Goal[S]) Verdict(r Results[S]) string {
	measured, met := g.Measure(r)
	if met {
		return g.Text + ": " + measured + ": met"
	}
	return g.Text + ": " + measured + ": **not met**"
}
