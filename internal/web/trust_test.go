package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// TestACallContinuesItsTrace has the trace that a browser began go on in the server.
func TestACallContinuesItsTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tel := telemetry.Discard()
	tel.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	s := startWith(t, tel, &service{})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	response, _ := post(t, over(t, false, local), s, unary, "application/json",
		strings.NewReader("{}"), "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("got %d", response.StatusCode)
	}
	eventually(t, "the span ends", func() bool { return len(spans.Ended()) == 1 })
	span := spans.Ended()[0]
	if span.SpanContext().TraceID().String() != trace ||
		span.Parent().SpanID().String() != "b7ad6b7169203331" ||
		span.Name() != "grpc.testing.TestService/UnaryCall" {
		t.Errorf("the span is %s of trace %s below %s", span.Name(), span.SpanContext().TraceID(),
			span.Parent().SpanID())
	}
}

// TestTLSIsThatOfTheMainPort has the web port ask for certificates where the main port does.
func TestTLSIsThatOfTheMainPort(t *testing.T) {
	folder := t.TempDir()
	certificate := selfSigned(t, folder)
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	settings := []string{"TEST_RPC_TLS_CERT_FILE=" + folder + "/cert.pem", "TEST_RPC_TLS_KEY_FILE=" +
		folder + "/key.pem", "TEST_RPC_TLS_CA_FILE=" + folder + "/cert.pem"}
	for mode, needsCertificate := range map[string]bool{"tls": false, "mtls": true} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, &service{}, append(settings, "TEST_RPC_TLS_MODE="+mode)...)
			call := func(version string, config *tls.Config) error {
				var protocols http.Protocols
				protocols.SetHTTP1(version == "HTTP/1.1")
				protocols.SetHTTP2(version == "HTTP/2.0")
				transport := &http.Transport{Protocols: &protocols, TLSClientConfig: config}
				defer transport.CloseIdleConnections()
				client := connect.NewClient[grpc_testing.SimpleRequest,
					grpc_testing.SimpleResponse](&http.Client{Transport: transport}, "https://"+s.Web+unary)
				_, err := client.CallUnary(apptest.Deadline(t),
					connect.NewRequest(&grpc_testing.SimpleRequest{}))
				return err
			}
			for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
				if err := call(version, &tls.Config{RootCAs: pool,
					Certificates: []tls.Certificate{certificate}}); err != nil {
					t.Errorf("%s with a certificate: %v", version, err)
				}
				if err := call(version, &tls.Config{RootCAs: pool}); (err != nil) != needsCertificate {
					t.Errorf("%s without a certificate: %v", version, err)
				}
			}
			response, err := http.Get("http://" + s.Web + unary)
			if err == nil {
				defer response.Body.Close()
			}
			if err == nil && response.StatusCode != http.StatusBadRequest {
				t.Errorf("in plaintext: %d", response.StatusCode)
			}
		})
	}
}

// TestPermissionsAreThoseOfTheMainPort has the web port deny what the main port denies.
func TestPermissionsAreThoseOfTheMainPort(t *testing.T) {
	folder := t.TempDir()
	certificate := selfSigned(t, folder)
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	for rule, want := range map[string]int{"grpc.testing.TestService/UnaryCall": http.StatusOK,
		"grpc.testing.TestService/EmptyCall": http.StatusForbidden} {
		permissions := filepath.Join(folder, "permissions.json")
		if err := os.WriteFile(permissions,
			[]byte(`{"allow": [{"callers": ["*"], "methods": ["`+rule+`"]}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, &service{}, "TEST_RPC_TLS_MODE=mtls", "TEST_RPC_TLS_CERT_FILE="+folder+"/cert.pem",
			"TEST_RPC_TLS_KEY_FILE="+folder+"/key.pem",
			"TEST_RPC_TLS_CA_FILE="+folder+"/cert.pem", "TEST_RPC_PERMISSIONS_FILE="+permissions)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool,
			Certificates: []tls.Certificate{certificate}}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Post("https://"+s.Web+unary,
			"application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body) // The status says enough if it cannot be read.
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a rule for %s: got %d and %s", rule, response.StatusCode, body)
		}
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T, folder string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter:    time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(local)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, content := range map[string][]byte{"cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
