package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster answers as the API server does, for one request of one pod.
type cluster struct {
	request map[string]any
	podUID  string
	patched *status
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, "the caller is not known", http.StatusUnauthorized)
		return
	}
	answers := map[string]any{
		"GET /apis/certificates.k8s.io/v1/podcertificaterequests": map[string]any{
			"items": []any{c.request},
		},
		"GET /api/v1/namespaces/shop/pods/server-1": map[string]any{"metadata": map[string]any{
			"uid": c.podUID, "labels": map[string]string{"app": "server", "version": "2"},
		}},
		"GET /api/v1/namespaces/shop/services": map[string]any{"items": []any{
			service("server", map[string]string{"app": "server"}),
			service("old", map[string]string{"app": "server", "version": "1"}),
			service("external", nil),
		}},
		"PATCH /apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests/r1/status": map[string]any{},
	}
	answer, ok := answers[r.Method+" "+r.URL.Path]
	if !ok ||
		strings.HasSuffix(r.URL.Path, "requests") &&
			r.FormValue("fieldSelector") != "spec.signerName=acme.example/pods" {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPatch {
		var change struct {
			Metadata metadata
			Status   status
		}
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil ||
			change.Metadata.ResourceVersion != "7" {
			http.Error(w, "conflict", http.StatusConflict)
			return
		}
		c.patched = &change.Status
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func service(name string, selector map[string]string) any {
	return map[string]any{
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"selector": selector},
	}
}

// ask has the signer answer a request that is a good one but for changes.
func ask(t *testing.T, change func(spec map[string]any, c *cluster)) (*status, *authority, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	spec := map[string]any{
		"podName": "server-1", "podUID": "u1", "serviceAccountName": "server",
		"maxExpirationSeconds": 7200, "stubPKCS10Request": csr,
	}
	c := &cluster{podUID: "u1", request: map[string]any{
		"metadata": map[string]any{
			"namespace":       "shop",
			"name":            "r1",
			"resourceVersion": "7",
		},
		"spec": spec,
	}}
	change(spec, c)
	server := httptest.NewServer(c)
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	err = signAll(
		context.Background(),
		&api{server: server.URL, token: token, client: server.Client()},
		a,
		"acme.example/pods",
	)
	return c.patched, a, err
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, domain: "cluster.local", lifetime: 24 * time.Hour}
}

func TestACertificateHasTheNamesThatTheClusterVouchesFor(t *testing.T) {
	got, a, err := ask(t, func(map[string]any, *cluster) {})
	if err != nil || got == nil {
		t.Fatal(got, err)
	}
	block, _ := pem.Decode([]byte(got.CertificateChain))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool,
			KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"server.shop.svc",
		"server.shop.svc.cluster.local"}; !slices.Equal(cert.DNSNames, want) {
		t.Errorf("got the names %q, expected %q", cert.DNSNames, want)
	}
	if uri := cert.URIs[0].String(); uri != "spiffe://cluster.local/ns/shop/sa/server" {
		t.Errorf("got the URI %s", uri)
	}
	if got.Conditions[0].Type != "Issued" || !got.NotAfter.Equal(cert.NotAfter) ||
		!got.NotBefore.Equal(cert.NotBefore) ||
		cert.NotAfter.Sub(cert.NotBefore) != 2*time.Hour ||
		!got.BeginRefreshAt.Equal(cert.NotBefore.Add(time.Hour)) {
		t.Errorf("got %+v for a certificate from %s to %s", got, cert.NotBefore, cert.NotAfter)
	}
}

func TestWhatTheSignerCannotSignIsDeniedOrLeft(t *testing.T) {
	for name, test := range map[string]struct {
		change func(spec map[string]any, c *cluster)
		denied bool
		want   string
	}{
		"annotations": {func(spec map[string]any, _ *cluster) {
			spec["unverifiedUserAnnotations"] = map[string]string{"a/b": "c"}
		}, true, ""},
		"no request inside":   {func(spec map[string]any, _ *cluster) { spec["stubPKCS10Request"] = []byte("x") }, true, ""},
		"too long a lifetime": {func(spec map[string]any, _ *cluster) { spec["maxExpirationSeconds"] = 7862400 }, false, ""},
		"another pod":         {func(_ map[string]any, c *cluster) { c.podUID = "u2" }, false, "is another one by now"},
		"another version":     {func(_ map[string]any, c *cluster) { c.request["metadata"].(map[string]any)["resourceVersion"] = "8" }, false, "409"},
		"an answered one": {func(_ map[string]any, c *cluster) {
			c.request["status"] = status{Conditions: []condition{{Type: "Denied"}}}
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := ask(t, test.change)
			if test.want == "" && err != nil ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, expected %q", err, test.want)
			}
			switch {
			case test.denied && (got == nil || got.Conditions[0].Type != "Denied" || got.CertificateChain != ""):
				t.Errorf("got %+v, expected that it is denied", got)
			case name == "too long a lifetime" && got.NotAfter.Sub(got.NotBefore) != 24*time.Hour:
				t.Errorf("a certificate is valid for %s", got.NotAfter.Sub(got.NotBefore))
			case !test.denied && name != "too long a lifetime" && got != nil:
				t.Errorf("got %+v, expected no answer", got)
			}
		})
	}
}
