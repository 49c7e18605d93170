package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/grpc/resolver"

	"example.com/quartet/internal/config"
)

// target is where services are: host:port, or a gRPC target with a scheme.
type target string

// UnmarshalText refuses what gRPC would look for in DNS for ever.
func (t *target) UnmarshalText(text []byte) (err error) {
	*t, err = parseTarget(string(text))
	return err
}

// zone matches the zone of an IPv6 address. In a URL, which a target is to gRPC, its percent sign
// is written %25.
var zone = regexp.MustCompile(`\[([0-9A-Fa-f:.]+)%(25)?([^]]+)\]`)

// parseTarget reads a target as gRPC does. What has no scheme that gRPC knows is host:port.
func parseTarget(text string) (target, error) {
	// url.Parse takes a percent sign for the beginning of an escape, and refuses the zone otherwise.
	text = zone.ReplaceAllString(text, "[$1%25$3]")
	// gRPC parses targets with url.Parse as well.
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return hostPort(text, text)
	}
	// gRPC takes dns:host:port (opaque) and dns:///host:port (path) for the same.
	endpoint := strings.TrimPrefix(u.Path, "/") + u.Opaque
	switch {
	case u.User != nil:
		return "", errors.New("has a user in it, and gRPC does not send it")
	case u.Scheme == "ipv4", u.Scheme == "ipv6":
		// In gRPC's list of schemes, but not in Go's implementation of it.
		address, err := netip.ParseAddrPort(decoded(endpoint))
		if err != nil || address.Addr().Is4() != (u.Scheme == "ipv4") {
			return "", fmt.Errorf("is no address and port of %s", u.Scheme)
		}
		// The address becomes host:port, which gRPC understands.
		return parseTarget(address.String())
	// It looks like a URL, so that the scheme is meant as one: http://, for example.
	case resolver.Get(u.Scheme) == nil && strings.Contains(text, "://"):
		return "", fmt.Errorf("gRPC knows no %s://, expected host:port", u.Scheme)
	// host:port parses as a URL with the scheme "host".
	case resolver.Get(u.Scheme) == nil:
		return hostPort(text, text)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("must not have a ? or #, expected %s:///host:port", u.Scheme)
	// What is left of gRPC's own schemes are unix and unix-abstract.
	case u.Scheme != "dns" && u.Scheme != "passthrough":
		return socket(text, u)
	// dns://host:port names a DNS server and nothing to look up.
	case endpoint == "" && u.Host != "":
		return "", fmt.Errorf("has two slashes, did you mean %s:///%s?", u.Scheme, u.Host)
	case u.Opaque != "": // Which gRPC takes as it is, with a zone that is encoded.
		text = u.Scheme + ":///" + u.Opaque
	}
	if err := checkAuthority(u); err != nil {
		return "", err
	}
	return hostPort(text, endpoint)
}

// hostPort is text, whose part address is host:port.
func hostPort(text, address string) (target, error) {
	// Port 0 can only be listened at.
	return target(text), config.CheckHostPort(decoded(address), 1)
}

// decoded is an address without the escape of its zone.
func decoded(address string) string { return strings.Replace(address, "%25", "%", 1) }

// checkAuthority refuses a DNS server that cannot be one: dns://server:53/host:port.
func checkAuthority(u *url.URL) error {
	server := u.Host
	if server == "" {
		return nil
	}
	// 53 is the port of DNS, which gRPC takes without one.
	if u.Port() == "" {
		server += ":53"
	}
	if err := config.CheckHostPort(server, 1); err != nil {
		return fmt.Errorf("the DNS server %s: %w", u.Host, err)
	}
	return nil
}

// socket is text, a Unix domain socket.
func socket(text string, u *url.URL) (target, error) {
	switch path := u.Path + u.Opaque; {
	case u.Host != "":
		return "", fmt.Errorf("has two slashes, did you mean %s:///%s?", u.Scheme, u.Host+path)
	case path == "", strings.HasSuffix(path, "/"):
		return "", fmt.Errorf("has no socket, expected %s:///path", u.Scheme)
	}
	return target(text), nil
}
