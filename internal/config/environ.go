package config

import (
	"slices"
	"strings"
)

// Lookup is the value of a variable in environ, whose entries look like
// os.Environ's, and "" if it is not there. As with exec, the last of a name
// counts.
func Lookup(environ []string, name string) string {
	for _, entry := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
