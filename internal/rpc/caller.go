package rpc

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Caller is whose calls share a limit: the identity in a verified token, or else in a verified
// certificate, or else the address that the connection comes from, without its port. Behind a proxy
// that ends connections, all callers are the proxy. It can be compared.
type Caller struct {
	identity string
	address  netip.Prefix
}

// CallerOf returns the caller of the call that ctx belongs to.
func CallerOf(ctx context.Context) Caller {
	if identity, ok := ctx.Value(tokenIdentity{}).(string); ok {
		return Caller{identity: identity}
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
		return Caller{identity: identityIn(info.State.PeerCertificates[0])}
	}
	return Caller{address: network(p.Addr)}
}

// CallerOfRequest is the caller of a request to an http.Server.
func CallerOfRequest(r *http.Request) Caller {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return Caller{identity: identityIn(r.TLS.PeerCertificates[0])}
	}
	return CallerAt(r.RemoteAddr)
}

// CallerOfRequest is the caller of a request to an http.Server for the services of this server: the
// identity in its token too, if that was verified before. A new one is not, which costs more than
// what the caller is needed for.
func (s *Server) CallerOfRequest(r *http.Request) Caller {
	if s.access != nil && s.access.tokens != nil {
		md := metadata.MD{authorizationHeader: r.Header.Values(authorizationHeader)}
		bearer, err := bearerToken(metadata.NewIncomingContext(r.Context(), md))
		if err == nil {
			if identity, known, err := s.access.tokens.Known(bearer); known && err == nil {
				return Caller{identity: identity}
			}
		}
	}
	return CallerOfRequest(r)
}

// Identity is the one in the verified token or certificate, empty without one.
func (c Caller) Identity() string { return c.identity }

// identityIn is the first URI of a certificate, as SPIFFE has it, else its first DNS name, else its
// subject. What it begins with says which, so that none is the identity of a token.
func identityIn(cert *x509.Certificate) string {
	if names := namesIn(cert); len(names) > 0 {
		return names[0]
	}
	return "subject:" + cert.Subject.String()
}

// networkBits are those of an IPv6 network, all of whose addresses one host can have.
const networkBits = 64

// network is the address of a peer: of IPv6 the network, because a host has as many addresses in it
// as it likes.
func network(addr net.Addr) netip.Prefix {
	from := addrPort(addr)
	if !from.IsValid() && addr != nil {
		from, _ = netip.ParseAddrPort(addr.String()) // as http.Server has it
	}
	if !from.IsValid() {
		return netip.Prefix{} // Of a listener within the process.
	}
	ip := from.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = networkBits
	}
	prefix, _ := ip.Prefix(bits) // It fails only for bits that the address does not have.
	return prefix
}

// CallerAt is the caller at an address, host:port, of a port that is no gRPC server's.
func CallerAt(address string) Caller {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return Caller{}
	}
	return Caller{address: network(net.TCPAddrFromAddrPort(at))}
}
