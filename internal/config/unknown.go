package config

import (
	"fmt"
	"regexp"

	"github.com/agnivade/levenshtein"
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

// isServiceLink reports whether an entry NAME=value of the environment comes from Kubernetes.
func isServiceLink(entry string) bool { return serviceLink.MatchString(entry) }

// suggestion proposes the closest name if at most a third of it differs.
func suggestion(prefix, name string, known []string) string {
	// The length counts without the prefix, which all names have in common, so that a short name needs
	// to be close.
	best, distance := "", (len(name)-len(prefix))/3+1
	for _, candidate := range known {
		if d := levenshtein.ComputeDistance(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}
