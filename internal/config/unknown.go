package config

import (
	"fmt"
	"regexp"
)

// serviceLink matches the variables that Kubernetes derives from the Services
// of a namespace ("Environment variables" in its Service documentation). Name
// and value are matched together, so that a variable of ours which happens to
// end in _PORT is never mistaken for one.
var serviceLink = regexp.MustCompile(`^[A-Z0-9_]+_(` +
	`SERVICE_HOST=[0-9a-f.:]+|` +
	`SERVICE_PORT(_[A-Z0-9_]+)?=\d+|` +
	`PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*|` +
	`PORT_\d+_(TCP|UDP|SCTP)_(ADDR=[0-9a-f.:]+|PORT=\d+|PROTO=(tcp|udp|sctp))` +
	`)$`)

func isServiceLink(entry string) bool { return serviceLink.MatchString(entry) }

// suggestion proposes the closest name if at most a third of it differs.
func suggestion(prefix, name string, known []string) string {
	best, distance := "", (len(name)-len(prefix))/3+1
	for _, candidate := range known {
		if d := levenshtein(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}

// levenshtein counts the bytes to insert, delete or replace between a and b.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
