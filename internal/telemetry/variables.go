package telemetry

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/quartet/internal/reload"
)

// variable is one that the SDK of OpenTelemetry reads by itself, or a list of ours. sanitize
// returns what makes sense of its value, and an error about the rest of it, which has no value that
// may be a secret.
type variable struct {
	name     string
	sanitize func(value string) (sanitized string, err error)
}

// variables are those of all signals, and of each.
func variables(checkURL func(text string) error) []variable {
	const day = int(24 * time.Hour / time.Millisecond)
	// These variables exist once, and those below for spans, metrics and both.
	all := []variable{
		{"OTEL_RESOURCE_ATTRIBUTES", elements(mendAttribute)},
		{
			"OTEL_TRACES_SAMPLER",
			oneOf(always, never, ratio, parentBased+always, parentBased+never, parentBased+ratio),
		},
		{"OTEL_TRACES_SAMPLER_ARG", mendRatio},
		{"OTEL_METRIC_EXPORT_INTERVAL", within(1, day)},
		{"OTEL_METRIC_EXPORT_TIMEOUT", within(1, day)},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", oneOf("cumulative", "delta", "lowmemory")},
		{
			"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
			oneOf("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
		},
	}
	for _, name := range []string{
		"SPAN_ATTRIBUTE_VALUE_LENGTH", "ATTRIBUTE_VALUE_LENGTH", "SPAN_ATTRIBUTE_COUNT", "ATTRIBUTE_COUNT", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT",
		"EVENT_ATTRIBUTE_COUNT", "LINK_ATTRIBUTE_COUNT",
	} {
		all = append(all, variable{"OTEL_" + name + "_LIMIT", within(-1, 1<<31-1)}) // -1 is none.
	}
	for _, name := range []string{"TRACES_EXPORTER", "METRICS_EXPORTER", "LOGS_EXPORTER", "PROPAGATORS", "SDK_DISABLED"} {
		all = append(all, variable{"OTEL_" + name, elements(mendElement)})
	}
	for _, prefix := range prefixes {
		all = append(
			all,
			variable{
				prefix + "ENDPOINT",
				endpoint(checkURL),
			},
			variable{prefix + "COMPRESSION", oneOf("gzip", "none")},
			variable{prefix + "TIMEOUT", within(1, day)},
			variable{
				prefix + "INSECURE",
				oneOf("true", "false"),
			},
			variable{prefix + "CERTIFICATE", mendCertificates},
			variable{prefix + "HEADERS", elements(mendHeader)},
		)
	}
	return all
}

// prefixes are those of the variables of all signals, and of each.
var prefixes = []string{
	"OTEL_EXPORTER_OTLP_",
	"OTEL_EXPORTER_OTLP_TRACES_",
	"OTEL_EXPORTER_OTLP_METRICS_",
}

// Sanitize returns the variables of OpenTelemetry that have to have another value before Export is
// called, "" if they must not be set, because they make no sense or not in whole, which it logs.
// Its SDK, which reads them too, would log it several times, or not at all and do something else.
// checkURL looks at the URLs of collectors; its errors have to be without secrets.
func (t *Telemetry) Sanitize(
	lookup func(name string) string,
	checkURL func(text string) error,
) map[string]string {
	sanitized := map[string]string{}
	// The SDK reads nothing then.
	if strings.EqualFold(strings.TrimSpace(lookup("OTEL_SDK_DISABLED")), "true") {
		return sanitized
	}
	for _, v := range variables(checkURL) {
		value := strings.TrimSpace(lookup(v.name))
		if value == "" {
			continue
		}
		sense, err := v.sanitize(value)
		// Both lines are without the value: only the errors, which are ours, say what they may.
		switch {
		case err != nil && sense == "":
			t.Log.Warn(
				"a variable makes no sense, and counts as not set",
				"variable",
				v.name,
				"problem",
				err,
			)
		case err != nil:
			t.Log.Warn(
				"a part of a variable makes no sense, and is left out or taken as it is",
				"variable",
				v.name,
				"problem",
				err,
			)
		}
		// Blanks around a value count as a change, too: the SDK does not take all of them off.
		if sense != lookup(v.name) {
			sanitized[v.name] = sense
		}
	}
	// A certificate and its key make sense only together, so that they are looked at as pairs.
	for _, prefix := range prefixes {
		certificate, key := prefix+"CLIENT_CERTIFICATE", prefix+"CLIENT_KEY"
		if err := keyPair(strings.TrimSpace(lookup(certificate)),
			strings.TrimSpace(lookup(key))); err != nil {
			t.Log.Warn(
				"variables make no sense, and count as not set",
				"variable",
				certificate+", "+key,
				"problem",
				err,
			)
			sanitized[certificate], sanitized[key] = "", ""
		}
	}
	return sanitized
}

// within takes whole numbers from least to most.
func within(least, most int) func(string) (string, error) {
	return func(value string) (string, error) {
		if number, err := strconv.Atoi(value); err != nil || number < least || number > most {
			return "", fmt.Errorf("%q is no number from %d to %d", value, least, most)
		}
		return value, nil
	}
}

// oneOf takes one of the values, in any case, and returns it in lower case.
func oneOf(values ...string) func(string) (string, error) {
	return func(value string) (string, error) {
		if value = strings.ToLower(value); !slices.Contains(values, value) {
			return "", fmt.Errorf("%q is not supported, but %s", value, strings.Join(values, ", "))
		}
		return value, nil
	}
}

// mendRatio takes a share of traces from 0 to 1.
func mendRatio(value string) (string, error) {
	// What is not a number is neither.
	if number, err := strconv.ParseFloat(value, 64); err != nil || !(0 <= number && number <= 1) {
		return "", fmt.Errorf("%q is no number from 0 to 1", value)
	}
	return value, nil
}

// endpoint takes the URL of a collector, or a Unix domain socket, which gRPC reaches as unix:path.
func endpoint(checkURL func(text string) error) func(string) (string, error) {
	return func(value string) (string, error) {
		if path, ok := strings.CutPrefix(value, "unix:"); ok && strings.Trim(path, "/") != "" {
			return value, nil
		}
		if err := checkURL(value); err != nil {
			return "", err
		}
		return value, nil
	}
}

// mendCertificates takes a file with certificates of authorities that are read as PEM.
func mendCertificates(file string) (string, error) {
	if _, err := reload.Authorities(file); err != nil {
		return "", err
	}
	return file, nil
}

// keyPair is about two variables, of which one makes no sense without the other.
func keyPair(certificate, key string) error {
	switch {
	case certificate == "" && key == "":
		return nil
	case certificate == "":
		return fmt.Errorf("there is a key, %s, and no certificate", key)
	case key == "":
		return fmt.Errorf("there is a certificate, %s, and no key", certificate)
	}
	// It also finds a key that belongs to another certificate.
	_, err := tls.LoadX509KeyPair(certificate, key)
	return err
}

// elements are those of a list, which commas separate.
func elements(
	sanitize func(element string) (sanitized string, err error),
) func(string) (string, error) {
	return func(value string) (string, error) {
		var kept []string
		var problem error
		for element := range strings.SplitSeq(value, ",") {
			sanitized, err := sanitize(strings.TrimSpace(element))
			if sanitized != "" {
				kept = append(kept, sanitized)
			}
			// One problem of a list is enough for its line in the log.
			problem = cmp.Or(problem, err)
		}
		return strings.Join(kept, ","), problem
	}
}

// errEmpty is about two commas in a row, or one at an end.
var errEmpty = errors.New("the list has an empty element")

// mendElement takes one of a list of names, which are looked at where they are used.
func mendElement(text string) (string, error) {
	if text == "" {
		return "", errEmpty
	}
	return text, nil
}

// mendAttribute takes one of a resource. What is not percent-encoded as it should be is taken as it
// is, which OpenTelemetry does too.
func mendAttribute(text string) (string, error) {
	key, value, found := strings.Cut(text, "=")
	switch {
	case text == "":
		return "", errEmpty
	case !found || strings.TrimSpace(key) == "":
		return "", fmt.Errorf("%q is no key=value", text)
	}
	if _, err := url.PathUnescape(value); err != nil {
		// Escaped, it is read as what it says.
		return key + "=" + url.PathEscape(value), fmt.Errorf("%q: %w", key, err)
	}
	return text, nil
}

// token matches the names of headers.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// mendHeader takes a name=value that is sent with each export.
func mendHeader(text string) (string, error) {
	name, value, found := strings.Cut(text, "=")
	if _, err := url.PathUnescape(value); !found || err != nil ||
		!token.MatchString(strings.TrimSpace(name)) {
		return "", errors.New(
			"not each header is a name=value, with the value percent-encoded",
		) // They are secrets often.
	}
	return text, nil
}
