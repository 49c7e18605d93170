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
	// The usual mistakes of an operator are told apart before url.Parse, whose errors quote the input.
	switch {
	case text != "" && strings.ContainsAny(text[:1]+text[len(text)-1:], "\"'`"):
		return nil, errors.New("has quotes around it, which are the shell's and belong to no address")
	case strings.ContainsFunc(text, unicode.IsSpace):
		return nil, errors.New("has blanks in it, " + expected)
	case !found:
		return nil, errors.New("has no scheme, " + expected)
	// A scheme is compared without case, as RFC 3986 (section 3.1) has it.
	case !slices.Contains(schemes, strings.ToLower(scheme)):
		return nil, fmt.Errorf("has another scheme than %s, %s", strings.Join(schemes, " or "), expected)
	}
	// Neither the error of the url package nor a host with an @ somewhere behind it is to be quoted:
	// what is taken for the host may be a part of a password.
	unfit := errors.New(
		"is no URL, " + expected + "; in a user or password, / and @ and the like are percent-encoded",
	)
	u, err := url.Parse(text)
	if err != nil {
		return nil, unfit
	}
	err = checkHost(u, expected)
	if err != nil && strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		err = unfit
	}
	return u, err
}

// checkHost checks the host and the port of a parsed URL, which url.Parse takes almost as they are.
func checkHost(u *url.URL, expected string) error {
	host := u.Host
	switch port := u.Port(); {
	case u.Hostname() == "":
		return errors.New("has no host, " + expected)
	case port != "" && !isPort(port, 1), strings.HasSuffix(host, ":"):
		return errors.New("has a port that is no number from 1 to 65535, " + expected)
	// Without a port the scheme's default counts. CheckHostPort needs some port to check the host.
	case port == "":
		host += ":1"
	}
	return CheckHostPort(host, 1)
}
