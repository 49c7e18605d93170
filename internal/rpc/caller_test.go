package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// dialFrom connects from an address of the loopback network.
func dialFrom(t *testing.T, from, to string) grpc_testing.TestServiceClient {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func TestACallerHasAShareOfTheCallsAndNotAllOfThemInFourModes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	for _, c := range []struct {
		name             string
		limit, perCaller int64
		share            int
	}{
		{"half by default", 4, 0, 2},
		{"as configured", 4, 3, 3},
	} {
		for _, mode := range modes {
			t.Run(c.name+" "+mode.name, func(t *testing.T) {
				s := defaults()
				s.server.MaxInFlight, s.server.MaxInFlightPerCaller = c.limit, c.perCaller
				handle, entered, release := hold()
				r := s.start(t, handle)
				greedy := []grpc_testing.TestServiceClient{dialFrom(t, "127.0.0.2", r.address),
					dialFrom(t, "127.0.0.2", r.address)}
				neighbour := dialFrom(t, "127.0.0.3", r.address)
				ended := make(chan error, c.limit)
				call := func(stub grpc_testing.TestServiceClient) {
					ended <- mode.call(testContext(t), stub, 1)
				}
				for i := range c.share {
					go call(greedy[i%2])
					<-entered
				}
				st := status.Convert(mode.call(testContext(t), greedy[0], 1))
				if st.Code() != codes.ResourceExhausted || errorInfo(st).GetReason() != "OVERLOADED" ||
					!strings.HasSuffix(st.Message(), " of one caller at once") {
					t.Errorf("a call beyond the share got %v with %v", st, st.Details())
				}
				for range int(c.limit) - c.share {
					go call(neighbour)
					<-entered
				}
				release()
				for range c.limit {
					if err := <-ended; err != nil {
						t.Error(err)
					}
				}
				if err := mode.call(testContext(t), greedy[1], 1); err != nil {
					t.Errorf("the share is not given back: %v", err)
				}
			})
		}
	}
}

func TestCallersAreToldApartByCertificateOrAddress(t *testing.T) {
	id, err := url.Parse("spiffe://example.com/shop")
	if err != nil {
		t.Fatal(err)
	}
	subject := pkix.Name{CommonName: "shop"}
	certificate := func(cert *x509.Certificate) credentials.AuthInfo {
		return credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert},
			VerifiedChains: [][]*x509.Certificate{{cert}}}}
	}
	from := func(address string, info credentials.AuthInfo) Caller {
		caller := CallerOf(peer.NewContext(t.Context(),
			&peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), AuthInfo: info}))
		request := &http.Request{RemoteAddr: address}
		if info, ok := info.(credentials.TLSInfo); ok {
			request.TLS = &info.State
		}
		if of := CallerOfRequest(request); of != caller {
			t.Errorf("the caller of a request is %+v, and of a call %+v", of, caller)
		}
		return caller
	}
	shown := []*x509.Certificate{{URIs: []*url.URL{id}}}
	unverified := credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: shown}}
	for _, c := range []struct {
		name string
		a, b Caller
		same bool
	}{
		{"ports of one address", from("10.0.0.1:1", nil), from("10.0.0.1:2", nil), true},
		{"two addresses", from("10.0.0.1:1", nil), from("10.0.0.2:1", nil), false},
		{"IPv4 and as IPv6", from("10.0.0.1:1", nil), from("[::ffff:10.0.0.1]:1", nil), true},
		{"two IPv6 addresses of one network", from("[2001:db8::1]:1", nil),
			from("[2001:db8::ff:2]:1", nil), true},
		{"two IPv6 networks", from("[2001:db8::1]:1", nil), from("[2001:db8:0:1::1]:1", nil), false},
		{"one URI at two addresses", from("10.0.0.1:1",
			certificate(&x509.Certificate{URIs: []*url.URL{id}, DNSNames: []string{"a"}})),
			from("10.0.0.2:1", certificate(&x509.Certificate{URIs: []*url.URL{id}})), true},
		{"two DNS names", from("10.0.0.1:1", certificate(&x509.Certificate{DNSNames: []string{"a"}})),
			from("10.0.0.1:1", certificate(&x509.Certificate{DNSNames: []string{"b"}})), false},
		{"a subject", from("10.0.0.1:1", certificate(&x509.Certificate{Subject: subject})),
			from("10.0.0.2:1", certificate(&x509.Certificate{Subject: subject})), true},
		{"a certificate that was not verified", from("10.0.0.1:1", unverified), from("10.0.0.1:1", nil),
			true},
	} {
		if same := c.a == c.b; same != c.same {
			t.Errorf("%s: %+v and %+v are the same: %t", c.name, c.a, c.b, same)
		}
	}
}
