package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"

	"example.com/quartet/internal/telemetry/telemetrytest"
)

// authority issues certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority"},
		NotAfter: time.Now().Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// files are one side's TLS files.
type files struct{ TLSConfig }

func newFiles(t *testing.T, mode string, from authority, trust ...authority) *files {
	t.Helper()
	dir := t.TempDir()
	f := &files{TLSConfig: TLSConfig{
		Mode: mode, CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		CAFile: filepath.Join(dir, "ca.crt"),
	}}
	f.trust(t, trust...)
	f.issue(t, from)
	return f
}

// issue writes a new certificate for 127.0.0.1 and returns its serial number.
func (f *files) issue(t *testing.T, from authority) *big.Int {
	t.Helper()
	return f.issueAs(t, from, &x509.Certificate{NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// issueAs writes a certificate that is as template says, with a serial number of its own, which it
// returns.
func (f *files) issueAs(t *testing.T, from authority, template *x509.Certificate) *big.Int {
	t.Helper()
	key := newKey(t)
	template.SerialNumber = serial(t)
	der, err := x509.CreateCertificate(rand.Reader, template, from.cert, key.Public(), from.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.write(t, f.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return template.SerialNumber
}

func (f *files) trust(t *testing.T, authorities ...authority) {
	t.Helper()
	var all []byte
	for _, a := range authorities {
		all = append(all, a.pem()...)
	}
	f.write(t, f.CAFile, all)
}

// write gives all versions the same time, as tar and rsync may.
func (f *files) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(1700000000, 0)
	if err := os.Chtimes(name, changed, changed); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	tests := []struct {
		name           string
		server, client *files
		ok             bool
	}{
		{"tls", newFiles(t, "tls", ours), newFiles(t, "tls", ours, ours), true},
		{"tls and another authority", newFiles(t, "tls", ours), newFiles(t, "tls", ours, theirs), false},
		{"mtls", newFiles(t, "mtls", ours, ours), newFiles(t, "mtls", ours, ours), true},
		{"mtls and a client without certificate", newFiles(t, "mtls", ours, ours),
			newFiles(t, "tls", ours, ours), false},
		{"mtls and a client of another authority", newFiles(t, "mtls", ours, ours),
			newFiles(t, "mtls", theirs, ours), false},
		{"tls and a plaintext client", newFiles(t, "tls", ours), &files{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := defaults()
			if !test.ok {
				s.client.UnaryTimeout = 300 * time.Millisecond
			}
			if strings.HasPrefix(test.name, "tls") {
				test.server.CAFile = ""
			}
			s.server.TLS, s.client.TLS = test.server.TLSConfig, test.client.TLSConfig
			r := s.start(t, succeed)
			if err := modes[0].call(testContext(t), r.stub, 1); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestRotationUnderALiveClient moves both sides from one authority to another
// in the order an operator would, while calls go on, of which none may fail.
func TestRotationUnderALiveClient(t *testing.T) {
	for _, mode := range []string{"tls", "mtls"} {
		t.Run(mode, func(t *testing.T) {
			old, next := newAuthority(t), newAuthority(t)
			server, client := newFiles(t, mode, old, old), newFiles(t, mode, old, old)
			s := defaults()
			s.server.TLS, s.client.TLS = server.TLSConfig, client.TLSConfig
			s.server.MaxConnectionAge = 30 * time.Millisecond
			clients := make(chan *big.Int, 1)
			r := s.start(t, func(ctx context.Context) error {
				select {
				case <-clients:
				default:
				}
				clients <- peerSerial(ctx)
				return nil
			})

			server.trust(t, old, next)
			client.trust(t, old, next)
			wantServer, wantClient := server.issue(t, next), client.issue(t, next)
			for deadline := time.Now().Add(10 * time.Second); ; {
				gotServer := callTLS(t, r)
				gotClient := <-clients
				if gotServer.Cmp(wantServer) == 0 && (mode == "tls" || gotClient.Cmp(wantClient) == 0) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the new certificates are not in use after 10 s")
				}
			}
			// The old authority may go once no peer shows its certificates.
			server.trust(t, next)
			client.trust(t, next)
			if err := modes[0].call(testContext(t), grpc_testing.NewTestServiceClient(s.dial(t, r.address)),
				1); err != nil {
				t.Errorf("a new connection: %v", err)
			}
		})
	}
}

func callTLS(t *testing.T, r *running) *big.Int {
	t.Helper()
	var p peer.Peer
	if _, err := r.stub.UnaryCall(testContext(t), &grpc_testing.SimpleRequest{},
		grpc.Peer(&p)); err != nil {
		t.Fatal(err)
	}
	return p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].SerialNumber
}

// peerSerial is nil for a client that showed no certificate.
func peerSerial(ctx context.Context) *big.Int {
	p, _ := peer.FromContext(ctx)
	if certs := p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates; len(certs) > 0 {
		return certs[0].SerialNumber
	}
	return nil
}

func TestHalfWrittenFilesChangeNothing(t *testing.T) {
	ca := newAuthority(t)
	server := newFiles(t, "tls", ca)
	server.CAFile = ""
	client := newFiles(t, "tls", ca, ca)
	s := defaults()
	s.server.TLS, s.client.TLS = server.TLSConfig, client.TLSConfig
	r := s.start(t, succeed)
	server.write(t, server.CertFile, []byte("half a certif"))
	if err := modes[0].call(testContext(t), r.stub, 1); err != nil {
		t.Error(err)
	}
}

func TestAHalfRotatedKeyIsOneLineHoweverManyConnectionsCome(t *testing.T) {
	ca := newAuthority(t)
	server := newFiles(t, "tls", ca)
	server.CAFile = ""
	s := defaults()
	var log telemetrytest.Log
	s.log = textLog(&log)
	s.server.TLS, s.client.TLS = server.TLSConfig, newFiles(t, "tls", ca, ca).TLSConfig
	r := s.start(t, succeed)
	connect := func() {
		t.Helper()
		for range 5 {
			if err := modes[0].call(testContext(t), grpc_testing.NewTestServiceClient(s.dial(t, r.address)),
				1); err != nil {
				t.Error(err)
			}
		}
	}
	certificate, err := os.ReadFile(server.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	for rotation := 1; rotation <= 2; rotation++ {
		server.issue(t, ca)
		next, err := os.ReadFile(server.CertFile)
		if err != nil {
			t.Fatal(err)
		}
		server.write(t, server.CertFile, certificate) // The key is new already.
		connect()
		if n := strings.Count(log.String(), "TLS files not reloaded"); n != rotation {
			t.Errorf("%d lines after %d rotations that stay half done:\n%s", n, rotation, log.String())
		}
		server.write(t, server.CertFile, next)
		connect()
		if n := strings.Count(log.String(), "TLS files reloaded"); n != rotation {
			t.Errorf("%d lines after %d rotations:\n%s", n, rotation, log.String())
		}
		certificate = next
	}
}

func TestWrongTLSFilesEndTheStart(t *testing.T) {
	for name, config := range map[string]TLSConfig{
		"mode":        {Mode: "ssl"},
		"certificate": {Mode: "tls"},
		"missing":     {Mode: "tls", CertFile: "/no/such.crt", KeyFile: "/no/such.key"},
		"key": {Mode: "tls", CertFile: "/no/such.crt",
			KeyFile: "-----BEGIN PRIVATE KEY-----\nc2VjcmV0"},
		"authority": {Mode: "mtls", CertFile: "/no/such.crt", KeyFile: "/no/such.key"},
	} {
		s := defaults()
		s.server.TLS = config
		if _, err := NewServer(s.server, telemetryForTest(), testDomain, nil); err == nil {
			t.Errorf("%s: the server was built", name)
		} else if strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: the error has the key: %v", name, err)
		}
	}
}
