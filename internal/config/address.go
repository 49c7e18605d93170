package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Address is where a process listens: host:port, or :port for every interface. Port 0 is a free
// one.
type Address string

// UnmarshalText refuses what no process can listen at.
// Port 0 is allowed here and not in the addresses of peers: it makes sense only to a listener.
func (a *Address) UnmarshalText(text []byte) error {
	if err := CheckHostPort(string(text), 0); err != nil {
		return err
	}
	*a = Address(text)
	return nil
}

// CheckHostPort returns an error, with a suggestion if there is one, unless text is host:port or
// :port. The host is a name, an IPv4 address or an IPv6 address in brackets, the port a number of
// at least minPort. The net package takes more than that: it looks malformed hosts up in DNS, and
// has a list of its own of names for ports.
func CheckHostPort(text string, minPort int) error {
	// The frequent mistakes come first, each with a message that says what was meant, which the errors
	// of net.SplitHostPort do not.
	switch colons := strings.Count(text, ":"); {
	case strings.ContainsAny(text, "\"'`"):
		return errors.New("has quotes in it, which are the shell's and belong to no address")
	case strings.Contains(text, "@"):
		return errors.New("has an @ in it, expected host:port alone")
	case strings.Contains(text, ","):
		return errors.New("is a list, expected one host:port; a DNS name may have several addresses")
	case strings.Contains(text, "/"):
		return errors.New("has a slash in it, expected host:port alone")
	case colons == 0 && isPort(text, 1):
		return fmt.Errorf("is a port alone, did you mean :%s?", text)
	case colons == 0:
		return errors.New("has no port, expected host:port")
	case colons > 1 && !strings.HasPrefix(text, "["):
		return fmt.Errorf("has more than one colon: an IPv6 address needs brackets%s", bracketed(text))
	}
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil:
		return errors.New("is no host:port")
	case !isPort(port, minPort):
		return fmt.Errorf("%q is no port, expected a number from %d to 65535", port, minPort)
	case host != "" && !isHost(host):
		return fmt.Errorf("%q is neither a host name nor an IP address", host)
	default:
		return nil
	}
}

// bracketed says how to write an IPv6 address that was meant.
func bracketed(text string) string {
	last := strings.LastIndexByte(text, ':')
	if host := text[:last]; isIP(host) {
		return fmt.Sprintf(", did you mean [%s]:%s?", host, text[last+1:])
	}
	return ", as in [::1]:50051"
}

// isPort reports whether text is a number from least to 65535. Names such as "http" are refused.
func isPort(text string, least int) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && int(port) >= least
}

// isIP reports whether text is an IPv4 address or an IPv6 address without brackets.
func isIP(text string) bool {
	address, err := netip.ParseAddr(text)
	return err == nil && zone.MatchString(address.Zone())
}

var (
	// zone is the zone of an IPv6 address, or none, of what needs no escape in a URL (RFC 6874). The
	// netip package takes anything for one, line breaks and percent signs too.
	zone = regexp.MustCompile(`^[A-Za-z0-9._~-]*$`)
	// name is a host name as DNS has them, with the underscores that it has too.
	name = regexp.MustCompile(`^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?$`)
	// numeric matches what ends in a number. Such a name is meant as an IPv4 address, so that one that
	// does not parse as an address, such as 10.0.0.256, is a mistake and no host name.
	numeric = regexp.MustCompile(`(^|\.)[0-9]+\.?$`)
)

// isHost reports whether text is an IP address or a host name. 253 bytes is the longest name that
// DNS can carry (RFC 1035, 255 bytes on the wire).
func isHost(text string) bool {
	return isIP(text) || len(text) <= 253 && name.MatchString(text) && !numeric.MatchString(text)
}
