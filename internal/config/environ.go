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

// HasCollector tells whether environ names a collector for traces. It does so
// in OpenTelemetry's own variables, which its SDK reads again for the rest.
func HasCollector(environ []string) bool {
	return Lookup(environ, "OTEL_EXPORTER_OTLP_ENDPOINT") != "" || Lookup(environ, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}
