package apptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Authority issues certificates for a server with mutual TLS and its clients.
type Authority struct {
	// cert is self-signed; it is what servers and clients of the test trust.
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// folder has the files that a server reads its certificates from.
	folder string
}

// NewAuthority makes one that is valid for an hour.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	// Without NotBefore it is valid since year 1, so that no clock is too slow for it.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		// A name of its own: a server tells clients by name which authorities it trusts.
		Subject: pkix.Name{CommonName: fmt.Sprintf("authority %p", key)},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{cert: cert, key: key, folder: tb.TempDir()}
}

// Settings are the variables of a server with mutual TLS and a certificate for 127.0.0.1.
func (a *Authority) Settings(tb testing.TB) []string {
	tb.Helper()
	return a.settings(tb, &x509.Certificate{
		// Go's TLS checks the address that a client dials against these, and not the common name.
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// ClientSettings are the variables of a client whose certificate names it by a URI, is for usage
// and ends at end. The servers that it trusts have certificates of trusted.
func (a *Authority) ClientSettings(
	tb testing.TB,
	trusted *Authority,
	uri string,
	usage x509.ExtKeyUsage,
	end time.Time,
) []string {
	tb.Helper()
	name, err := url.Parse(uri)
	if err != nil {
		tb.Fatal(err)
	}
	own := &Authority{cert: a.cert, key: a.key, folder: tb.TempDir()}
	settings := own.settings(tb, &x509.Certificate{
		URIs: []*url.URL{name}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, NotAfter: end,
	})
	if err := os.WriteFile(filepath.Join(own.folder, "CA"), trusted.PEM(), 0o600); err != nil {
		tb.Fatal(err)
	}
	return settings
}

// settings writes the files of one side, in PEM, as in a mounted Kubernetes Secret.
func (a *Authority) settings(tb testing.TB, template *x509.Certificate) []string {
	tb.Helper()
	cert, key := a.Pair(tb, template)
	settings := []string{"TEST_RPC_TLS_MODE=mtls"}
	for name, content := range map[string][]byte{"CERT": cert, "KEY": key, "CA": a.PEM()} {
		file := filepath.Join(a.folder, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			tb.Fatal(err)
		}
		settings = append(settings, "TEST_RPC_TLS_"+name+"_FILE="+file)
	}
	return settings
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pair is a certificate as template describes it, and its key, both in PEM. Without NotAfter it is
// valid as long as the authority.
func (a *Authority) Pair(tb testing.TB, template *x509.Certificate) (cert, key []byte) {
	tb.Helper()
	pair := a.issue(tb, template)
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// Client is the TLS of a client whose certificate names it by a URI.
func (a *Authority) Client(tb testing.TB, uri string) *tls.Config {
	tb.Helper()
	name, err := url.Parse(uri)
	if err != nil {
		tb.Fatal(err)
	}
	pair := a.issue(tb, &x509.Certificate{
		// As a SPIFFE identity: the server tells callers with mutual TLS apart by it.
		URIs: []*url.URL{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		// The programs take nothing older.
		MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{pair},
	}
}

// Dial is a connection of such a client, until the test ends.
func (a *Authority) Dial(tb testing.TB, address, uri string) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(credentials.NewTLS(a.Client(tb, uri))),
		// With WaitForReady a call waits for the first handshake instead of failing with UNAVAILABLE.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// issue signs a certificate for a new key, valid as long as the authority itself. It completes
// template.
func (a *Authority) issue(tb testing.TB, template *x509.Certificate) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		tb.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
