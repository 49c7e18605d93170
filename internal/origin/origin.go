// Package origin tells which names of a server a page elsewhere cannot have.
package origin

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// KnowsHost is true for the host of a request that is an IP address, localhost, or the host of one
// of origins. Any other name may be one that its owner has pointed to the server (DNS rebinding),
// so that a page of that name has the same origin as the server. Addresses and localhost cannot be
// pointed elsewhere, and the name of an origin in the configuration is one that browsers reach the
// server by. The port does not matter: kubectl port-forward and Services have their own.
func KnowsHost(host string, origins []string) bool {
	host = hostOf(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" ||
		strings.HasSuffix(host, ".localhost") {
		return true
	}
	return slices.ContainsFunc(origins, func(origin string) bool {
		_, at, _ := strings.Cut(origin, "://")
		return at != "" && hostOf(at) == host
	})
}

// hostOf is the host of host:port or host.
func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		hostPort = host
	}
	return strings.ToLower(hostPort)
}
