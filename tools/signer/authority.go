package main

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"time"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// domain is the trust domain, and the end of the DNS names of Services.
	domain string
	// lifetime is how long certificates are valid; renewal is when pods renew them, 0 for after half
	// of it.
	lifetime, renewal time.Duration
}

// Kubernetes accepts no certificates of less than an hour, and no renewal in the first and the last
// ten minutes (validation of certificates.k8s.io/v1).
const (
	minLifetime = time.Hour
	minRenewal  = 10 * time.Minute
)

// readAuthority reads the certificate and the key of an authority from a folder that is mounted
// from a Secret, and checks the times that its certificates are to have.
func readAuthority(folder, domain string, lifetime, renewal time.Duration) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(
		filepath.Join(folder, "tls.crt"),
		filepath.Join(folder, "tls.key"),
	)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s has no certificate of an authority", folder)
	}
	if lifetime < minLifetime ||
		renewal != 0 && (renewal < minRenewal || renewal > lifetime-minRenewal) {
		return nil, fmt.Errorf(
			"a certificate cannot be valid for %s and be renewed after %s",
			lifetime,
			renewal,
		)
	}
	return &authority{
		cert:     pair.Leaf,
		key:      key,
		domain:   domain,
		lifetime: lifetime,
		renewal:  renewal,
	}, nil
}

// skew is how far behind the clock of another node may be.
const skew = time.Minute

// sign makes the certificate for a request. services are those that select its pod. Only a pod that
// is behind one gets a certificate for servers.
func (a *authority) sign(r *request, services []string, now time.Time) (*status, error) {
	// The API server has checked the signature of the request.
	csr, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		return nil, err
	}
	// 127 random bits: RFC 5280 allows 20 octets, and two certificates must not have one number.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	// The node of a peer may have a clock that is behind, and would not take it yet.
	begin := now.Add(-skew).Truncate(time.Second)
	// MaxExpirationSeconds is what the pod asks for at most.
	lifetime := min(a.lifetime, time.Duration(r.Spec.MaxExpirationSeconds)*time.Second)
	end := begin.Add(lifetime)
	// A certificate that outlives its authority is worth nothing after it.
	if end.After(a.cert.NotAfter) {
		return nil, errors.New("the authority expires before the certificate would")
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: begin, NotAfter: end,
		// TLS 1.3 uses the key only to sign.
		KeyUsage: x509.KeyUsageDigitalSignature,
		// Every pod may call.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		// The SPIFFE ID is how servers with mutual TLS tell callers apart.
		URIs: []*url.URL{{
			Scheme: "spiffe", Host: a.domain,
			Path: "/ns/" + r.Metadata.Namespace + "/sa/" + r.Spec.ServiceAccountName,
		}},
	}
	// Clients call a Service by one of these names, and check it against the certificate.
	for _, service := range services {
		name := service + "." + r.Metadata.Namespace + ".svc"
		template.DNSNames = append(template.DNSNames, name, name+"."+a.domain)
	}
	if len(services) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	renewal := lifetime / 2
	if a.renewal != 0 {
		// A pod may ask for a shorter life than that of the flag, and the renewal has to be within it.
		renewal = min(a.renewal, lifetime-minRenewal)
	}
	return &status{
		Conditions: []condition{
			{
				Type:    "Issued",
				Status:  "True",
				Reason:  "Signed",
				Message: "signed",
				Since:   now.UTC().Truncate(time.Second),
			},
		},
		CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		NotBefore:        begin.UTC(),
		BeginRefreshAt:   begin.Add(renewal).UTC(),
		NotAfter:         end.UTC(),
	}, nil
}
