package rpc

import (
	cryptotls "crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/telemetry/telemetrytest"
)

func (r *running) failedHandshakes(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := r.telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "grpc_server_handshakes_failed_total" {
			for _, metric := range family.GetMetric() {
				counts[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
			}
		}
	}
	return counts
}

// TestFailedHandshakesAreCounted has a client fail in each way that a server can tell.
func TestFailedHandshakesAreCounted(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	plain := func() *files { return &files{} }
	tls := func(trust authority) *files { return newFiles(t, "tls", ours, trust) }
	write := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = conn.Write([]byte(text)) }
	}
	shake := func(config *cryptotls.Config) func(net.Conn) {
		config.InsecureSkipVerify = true
		return func(conn net.Conn) { _ = cryptotls.Client(conn, config).HandshakeContext(t.Context()) }
	}
	tests := map[string]struct {
		server, client *files
		raw            func(net.Conn) // in place of a client
		want           string         // the reason, or "" if the handshake succeeds
	}{
		"well":              {server: tls(ours), client: tls(ours)},
		"well in plaintext": {server: plain(), client: plain()},
		"well with mTLS": {server: newFiles(t, "mtls", ours, ours),
			client: newFiles(t, "mtls", ours, ours)},
		"another authority": {server: tls(ours), client: tls(theirs), want: "refused"},
		"no certificate": {server: newFiles(t, "mtls", ours, ours), client: tls(ours),
			want: "no_certificate"},
		"another certificate": {server: newFiles(t, "mtls", ours, ours),
			client: newFiles(t, "mtls", theirs, ours), want: "certificate"},
		"plaintext to TLS": {server: tls(ours), client: plain(), want: "plaintext"},
		"HTTP to TLS": {server: tls(ours), raw: write("GET / HTTP/1.1\r\n\r\n"),
			want: "plaintext"},
		"TLS to plaintext":  {server: plain(), client: tls(ours), want: "tls"},
		"HTTP to plaintext": {server: plain(), raw: write("GET / HTTP/1.1\r\n\r\n"), want: "not_http2"},
		"POST to plaintext": {server: plain(), raw: write("POST / HTTP/1.1\r\n\r\n"), want: "not_http2"},
		"HTTP/1.1 by TLS": {server: tls(ours),
			raw: shake(&cryptotls.Config{NextProtos: []string{"http/1.1"}}), want: "not_http2"},
		"TLS without ALPN": {server: tls(ours), raw: shake(&cryptotls.Config{}), want: "not_http2"},
		"TLS 1.2": {server: tls(ours),
			raw:  shake(&cryptotls.Config{NextProtos: []string{"h2"}, MaxVersion: cryptotls.VersionTLS12}),
			want: "tls_version"},
		"TLS 1.0": {server: tls(ours),
			raw: shake(&cryptotls.Config{MinVersion: cryptotls.VersionTLS10,
				MaxVersion: cryptotls.VersionTLS10}), want: "tls_version"},
		"SPDY by TLS": {server: tls(ours),
			raw: shake(&cryptotls.Config{NextProtos: []string{"spdy/3"}}), want: "not_http2"},
		"probe of plaintext": {server: plain(), raw: func(conn net.Conn) { _ = conn.Close() },
			want: "closed"},
		"probe of TLS": {server: tls(ours), raw: func(conn net.Conn) { _ = conn.Close() },
			want: "closed"},
		"silence":        {server: plain(), raw: func(net.Conn) {}, want: "timeout"},
		"silence to TLS": {server: tls(ours), raw: func(net.Conn) {}, want: "timeout"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := defaults()
			var log telemetrytest.Log
			s.log = textLog(&log)
			s.server.TLS = test.server.TLSConfig
			if test.want == "timeout" {
				s.server.ConnectionTimeout = 50 * time.Millisecond
			}
			if test.client != nil {
				s.client.TLS = test.client.TLSConfig
			}
			r := s.start(t, succeed)
			counts := r.failedHandshakes(t)
			if len(counts) < 9 {
				t.Errorf("only these are there from the start: %v", counts)
			}
			switch {
			case test.raw != nil:
				_ = r.conn.Close()
				conn, err := net.Dial("tcp", r.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				test.raw(conn)
			case test.want == "":
				if _, err := r.stub.EmptyCall(testContext(t), &grpc_testing.Empty{}); err != nil {
					t.Error(err)
				}
			default:
				r.conn.Connect()
			}
			if test.want != "" {
				eventually(t, test.want, func() bool { return r.failedHandshakes(t)[test.want] > 0 })
			}
			for reason, count := range r.failedHandshakes(t) {
				if count != 0 && reason != test.want {
					t.Errorf("%v with reason %s", count, reason)
				}
			}
			if want := test.want != "" && test.want != "closed"; strings.Contains(log.String(),
				"handshake failed") != want {
				t.Errorf("logged:\n%s", log.String())
			}
		})
	}
}

func TestFailedHandshakesAreLoggedOnce(t *testing.T) {
	s := defaults()
	var log telemetrytest.Log
	s.log = textLog(&log)
	r := s.start(t, succeed)
	for range 20 {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are counted", func() bool { return r.failedHandshakes(t)["not_http2"] == 20 })
	if n := strings.Count(log.String(), "handshake failed"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
