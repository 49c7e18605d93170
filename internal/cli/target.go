package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
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

// parseTarget reads a target as gRPC does. What has no scheme that gRPC knows is host:port.
func parseTarget(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return hostPort(text, text)
	}
	endpoint := strings.TrimPrefix(u.Path, "/") + u.Opaque
	switch {
	case u.User != nil:
		return "", errors.New("has a user in it, whom gRPC tells nobody")
	case u.Scheme == "ipv4", u.Scheme == "ipv6":
		// In gRPC's list of schemes, but not in Go's implementation of it.
		address, err := netip.ParseAddrPort(endpoint)
		if err != nil || address.Addr().Is4() != (u.Scheme == "ipv4") {
			return "", fmt.Errorf("is no address and port of %s", u.Scheme)
		}
		return hostPort(address.String(), address.String())
	case resolver.Get(u.Scheme) == nil && strings.Contains(text, "://"):
		return "", fmt.Errorf("gRPC knows no %s://, expected host:port", u.Scheme)
	case resolver.Get(u.Scheme) == nil:
		return hostPort(text, text)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("has a ? or # behind it, expected %s:///host:port", u.Scheme)
	case u.Scheme != "dns" && u.Scheme != "passthrough":
		return target(text), nil
	case endpoint == "" && u.Host != "":
		return "", fmt.Errorf("has two slashes, did you mean %s:///%s?", u.Scheme, u.Host)
	default:
		return hostPort(text, endpoint)
	}
}

// hostPort is text, whose part address is host:port.
func hostPort(text, address string) (target, error) {
	return target(text), config.CheckHostPort(address, 1)
}
