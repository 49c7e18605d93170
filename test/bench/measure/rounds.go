// Package measure is what every benchmark here needs: interleaved rounds, ratios, tables, and what
// a process has used.
package measure

import "math/rand/v2"

// Rounds measures each contestant once per round, in an order that is new in every round, so that
// none always comes after the same neighbour or in the same minute. One more round comes before and
// is thrown away: it warms up. The answer has the samples of each contestant in the order of the
// rounds.
func Rounds[S any](
	rounds, contestants int, measure func(contestant int) (S, error),
) ([][]S, error) {
	samples := make([][]S, contestants)
	for round := range rounds + 1 {
		for _, contestant := range rand.Perm(contestants) {
			sample, err := measure(contestant)
			if err != nil {
				return samples, err
			}
			if round > 0 {
				samples[contestant] = append(samples[contestant], sample)
			}
		}
	}
	return samples, nil
}
