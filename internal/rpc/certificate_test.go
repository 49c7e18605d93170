package rpc

import (
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

// gauge is the value of a metric of a side, and false if there is none.
func gauge(t *testing.T, from *telemetry.Telemetry, name, side string) (float64, bool) {
	t.Helper()
	families, err := from.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == side {
				return metric.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

func TestTheEndOfEachSidesCertificateIsAMetricAndFollowsItsFile(t *testing.T) {
	const notAfter = "test_tls_certificate_not_after_timestamp_seconds"
	a := newAuthority(t)
	server, client := newFiles(t, "mtls", a, a), newFiles(t, "mtls", a, a)
	end := time.Now().Add(2 * time.Hour).Truncate(time.Second)
	client.issueNamed(t, a, end, x509.ExtKeyUsageClientAuth)
	d := telemetry.Discard()
	cfg := defaults()
	cfg.server.TLS, cfg.client.TLS = server.TLSConfig, client.TLSConfig
	if _, err := NewServer(cfg.server, d, "test", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // A process may have connections to several servers.
		conn, err := NewClient(cfg.client, d, "127.0.0.1:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if _, ok := gauge(t, d, notAfter, "server"); !ok {
		t.Error("the server's certificate has no metric")
	}
	if got, _ := gauge(t, d, notAfter, "client"); int64(got) != end.Unix() {
		t.Errorf("the client's certificate ends at %v, expected %d", got, end.Unix())
	}
	end = end.Add(time.Hour)
	client.issueNamed(t, a, end, x509.ExtKeyUsageClientAuth)
	if got, _ := gauge(t, d, notAfter, "client"); int64(got) != end.Unix() {
		t.Errorf("the renewed certificate ends at %v, expected %d", got, end.Unix())
	}
}

func TestAPrivateKeyThatAllMayReadIsWarnedOf(t *testing.T) {
	a := newAuthority(t)
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		files, logged := newFiles(t, "mtls", a, a), &telemetrytest.Log{}
		if err := os.Chmod(files.KeyFile, mode); err != nil {
			t.Fatal(err)
		}
		d := telemetry.Discard()
		d.Log = slog.New(slog.NewTextHandler(logged, nil))
		cfg := defaults().server
		cfg.TLS = files.TLSConfig
		if _, err := NewServer(cfg, d, "test", nil); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(logged.String(), "may read the private key"); got != warned {
			t.Errorf("mode %o: warned is %v, logged %s", mode, got, logged)
		}
	}
}
