package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// ParseURL reads the URL of a server: scheme://host, perhaps with a port, with user information
// before it and a path after it. Its errors say what was meant, and have neither the user
// information nor the port in them, either of which may be a password.
func ParseURL(text string, schemes ...string) (*url.URL, error) {
	expected := "expected " + schemes[0] + "://host:port"
	scheme, _, found := strings.Cut(text, "://")
	switch {
	case text != "" && strings.ContainsAny(text[:1]+text[len(text)-1:], "\"'`"):
		return nil, errors.New("has quotes around it, which are the shell's and belong to no address")
	case strings.ContainsFunc(text, unicode.IsSpace):
		return nil, errors.New("has blanks in it, " + expected)
	case !found:
		return nil, errors.New("has no scheme, " + expected)
	case !slices.Contains(schemes, strings.ToLower(scheme)):
		return nil, fmt.Errorf("has another scheme than %s, %s", strings.Join(schemes, " or "), expected)
	}
	u, err := url.Parse(text)
	if err != nil { // It may have a part of a password in it.
		return nil, errors.New(
			"is no URL, " + expected + "; in a user or password, / and @ and the like are percent-encoded",
		)
	}
	return u, checkHost(u, expected)
}

func checkHost(u *url.URL, expected string) error {
	host := u.Host
	switch port := u.Port(); {
	case u.Hostname() == "":
		return errors.New("has no host, " + expected)
	case port != "" && !isPort(port, 1), strings.HasSuffix(host, ":"):
		return errors.New("has a port that is no number from 1 to 65535, " + expected)
	case port == "":
		host += ":1"
	}
	return CheckHostPort(host, 1)
}
