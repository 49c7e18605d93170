package web_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/clienttest"
)

// TestFailedHandshakesAreCounted has a client fail in each way that the web port can tell, as the
// main port counts and logs them.
func TestFailedHandshakesAreCounted(t *testing.T) {
	folder := t.TempDir()
	ours, theirs := selfSigned(t, folder), selfSigned(t, t.TempDir())
	trusted := x509.NewCertPool()
	trusted.AddCert(ours.Leaf)
	// shake makes a handshake, and waits until the server has closed the connection.
	shake := func(change func(*tls.Config)) func(*testing.T, net.Conn) {
		config := &tls.Config{RootCAs: trusted, ServerName: local, NextProtos: []string{"h2"}}
		change(config)
		return func(t *testing.T, conn net.Conn) {
			t.Helper()
			secured := tls.Client(conn, config)
			if secured.HandshakeContext(apptest.Deadline(t)) == nil {
				_ = clienttest.UntilClosed(t, secured)
			}
		}
	}
	write := func(text string) func(*testing.T, net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			t.Helper()
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Error(err)
			}
			_ = clienttest.UntilClosed(t, conn)
		}
	}
	for name, test := range map[string]struct {
		mode string
		do   func(*testing.T, net.Conn)
		want string // the reason
	}{
		"HTTP":        {"tls", write("GET / HTTP/1.1\r\n\r\n"), "plaintext"},
		"HTTP/2":      {"tls", write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "plaintext"},
		"not trusted": {"tls", shake(func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }), "refused"},
		"TLS 1.2": {"tls", shake(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
			"tls_version"},
		"SPDY": {"tls", shake(func(c *tls.Config) { c.NextProtos = []string{"spdy/3"} }),
			"not_http2"},
		"no certificate": {"mtls", shake(func(*tls.Config) {}), "no_certificate"},
		"another certificate": {"mtls", shake(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &theirs, nil
			}
		}), "certificate"},
		"a probe": {"tls", func(_ *testing.T, conn net.Conn) { _ = conn.Close() }, "closed"},
		"silence": {"tls", write(""), "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			tel, log := logged()
			environ := []string{"TEST_RPC_TLS_MODE=" + test.mode, "TEST_RPC_TLS_CERT_FILE=" + folder +
				"/cert.pem", "TEST_RPC_TLS_KEY_FILE=" + folder + "/key.pem",
				"TEST_RPC_TLS_CA_FILE=" + folder + "/cert.pem"}
			if test.want == "timeout" {
				environ = append(environ, "TEST_RPC_CONNECTION_TIMEOUT=50ms")
			}
			s := startWith(t, tel, &service{}, environ...)
			conn := raw(t, s, "")
			test.do(t, conn)
			eventually(t, test.want, func() bool { return failedHandshakes(t, s)[test.want] == 1 })
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if got := failedHandshakes(t, s); len(got) != 1 {
				t.Errorf("counted: %v", got)
			}
			level := "WARN"
			if test.want == "closed" {
				level = "DEBUG"
			}
			if line := fmt.Sprintf("level=%s msg=\"handshake failed\" reason=%s peer=%s", level, test.want,
				conn.LocalAddr()); !strings.Contains(log.String(), line) ||
				strings.Contains(log.String(), "TLS handshake error") {
				t.Errorf("no line or another one beside it in\n%s", log)
			}
		})
	}
	t.Run("none fails", func(t *testing.T) {
		s := start(t, &service{}, "TEST_RPC_TLS_MODE=tls", "TEST_RPC_TLS_CERT_FILE="+folder+"/cert.pem",
			"TEST_RPC_TLS_KEY_FILE="+folder+"/key.pem")
		for _, h2 := range []bool{false, true} {
			var protocols http.Protocols
			protocols.SetHTTP1(!h2)
			protocols.SetHTTP2(h2)
			transport := &http.Transport{Protocols: &protocols,
				TLSClientConfig: &tls.Config{RootCAs: trusted}}
			defer transport.CloseIdleConnections()
			response, err := (&http.Client{Transport: transport}).Post("https://"+s.Web+unary,
				"application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if got := failedHandshakes(t, s); len(got) != 0 {
			t.Errorf("counted: %v", got)
		}
	})
}

// failedHandshakes are those of both ports, by reason.
func failedHandshakes(t *testing.T, s *apptest.Server) map[string]float64 {
	t.Helper()
	families, err := s.Telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "grpc_server_handshakes_failed_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if count := metric.GetCounter().GetValue(); count > 0 {
				counts[metric.GetLabel()[0].GetValue()] = count
			}
		}
	}
	return counts
}
