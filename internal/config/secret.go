package config

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
)

// Secret is a value that is, or may have in it, what only this process may know, such as an address
// with a password. It is printed and logged as ***; string(s) is the value itself, which must not
// come into a line or an error.
type Secret string

// hidden is what stands in place of a secret.
const hidden = "***"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, which encoders such as that of JSON ask for.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

var (
	// user matches user information before the last @, after a scheme if there is one. (?s) lets the
	// dot match a newline too, so that nothing of a value of several lines is shown.
	user = regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]*:/+)?.*@`)
	// parameters matches the query of a URL, where tokens are often passed.
	parameters = regexp.MustCompile(`(?s)\?.+`)
)

// Masked is a value that does not parse as it may be printed: where it looks like an address,
// without user and parameters.
func Masked(value string) string {
	value = user.ReplaceAllString(value, "${1}"+hidden+"@")
	return parameters.ReplaceAllString(value, "?"+hidden)
}

// unparsable is what is wrong with the value of a variable. The error may quote the value, as those
// of strconv and time do.
func unparsable(name, value string, err error) error {
	shown, text := Masked(value), err.Error()
	// Errors of strconv and time have the value in the form that strconv.Quote gives it; the masked
	// form takes its place.
	if shown != value {
		quoted, masked := strconv.Quote(value), strconv.Quote(shown)
		text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], masked[1:len(masked)-1])
	}
	return fmt.Errorf("%s=%q: %s", name, shown, text)
}
