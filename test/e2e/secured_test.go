package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.com/quartet"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/token/tokentest"
)

const (
	// swaps is how often certificates and authorities are replaced, and swapInterval how long they
	// stay. With the second one the authority of the first connections is withdrawn.
	swaps        = 3
	swapInterval = 30 * time.Second
	// mountTime is how long the kubelet may take to bring a changed Secret to a pod that it is told
	// to look at.
	mountTime = time.Minute
	// withdrawalTime is how long an open call may last when its permission or authority is gone from
	// the files of the server.
	withdrawalTime = 5 * time.Second
	// permissionTime is how long a new permission may take that is in these files, with processes that
	// are started to try it.
	permissionTime = 30 * time.Second
)

// What callers are named in permissions.
const (
	clientName = "dns:q-quartet-client"
	listed     = "spiffe://test/listed"
)

// permission is a rule of the list.
type permission = apptest.Rule

// secured is a server and a client with mutual TLS, certificates from Secrets, and permissions.
type secured struct {
	release
	program string
	address string // of the server, by way of a node
	began   verdict

	// authorities are the one before, the one that signs, and the next one: pods learn of a new
	// certificate at different times, and have to trust those of their peers before and after that.
	authorities []*apptest.Authority
	// visitors is an authority that the server trusts besides, until it is nil.
	visitors *apptest.Authority
	rules    []permission // those of the release
	issuer   *tokentest.Issuer
}

func testSecured(t *testing.T, c *cluster, program string) {
	s := &secured{
		release:     c.newNamespace(t, "e2e-secured").release("q", "quartet"),
		program:     program,
		authorities: []*apptest.Authority{nil, apptest.NewAuthority(t), apptest.NewAuthority(t)},
		visitors:    apptest.NewAuthority(t),
		rules:       []permission{{Callers: []string{clientName, "uri:" + listed, "jwt:" + tokentest.Name + "#listed"}, Methods: []string{"*"}}},
		issuer:      tokentest.New(t),
	}
	inOrder(t, slices.Concat([]promise{
		{"server and client with certificates from Secrets roll out within 60 s", s.start},
		{"certificates and authorities are swapped every 30 s, and the client finds every answer right", s.swap},
		{"each certificate that must not call is refused, and the client says why", s.refuses},
		{"helm upgrade to tokens rolls out, and the client finds every answer right", s.acceptTokens},
		{"a token is enough to call, and each one that is not valid is refused, and the client says why", s.refusesTokens},
		{"a permission that is added needs no restart", s.permitsMore},
	}, promises(s, func(of service) func(*secured) []promise { return of.secured }))...)
}

func (s *secured) start(t *testing.T) {
	s.deliver(t)
	file := filepath.Join(t.TempDir(), "values.json")
	values, err := json.Marshal(map[string]any{
		"tls": map[string]any{
			"mode": "mtls", "serverSecret": "server-tls", "clientSecret": "client-tls", "permissions": s.rules,
		},
		"server": map[string]any{"service": map[string]any{"type": "NodePort"}},
	})
	if err == nil {
		err = os.WriteFile(file, values, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.install(t, "--values", file)
	s.rolledOut(t, rolloutTime)
	s.address = s.nodePort(t, "q-quartet-server", "grpc")
}

// deliver replaces the Secrets of both sides by new certificates, and by the authorities that are
// trusted now.
func (s *secured) deliver(t *testing.T) {
	t.Helper()
	var trusted []byte
	for _, authority := range s.authorities {
		if authority != nil {
			trusted = append(trusted, authority.PEM()...)
		}
	}
	s.secret(t, "client-tls", trusted, &x509.Certificate{
		DNSNames:    []string{strings.TrimPrefix(clientName, "dns:")},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if s.visitors != nil {
		trusted = append(trusted, s.visitors.PEM()...)
	}
	s.secret(t, "server-tls", trusted, &x509.Certificate{
		DNSNames:    []string{fmt.Sprintf("q-quartet-server-headless.%s.svc", s.namespace.name)},
		IPAddresses: s.nodeAddresses(t),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// secret writes a Secret in the form of cert-manager, and waits until the pods of its component
// have it.
func (s *secured) secret(t *testing.T, name string, trusted []byte, template *x509.Certificate) {
	t.Helper()
	cert, key := s.authorities[1].Pair(t, template)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": trusted},
	}
	secrets := s.kube.CoreV1().Secrets(s.namespace.name)
	_, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	if err != nil {
		_, err = secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.mounted(t, strings.TrimSuffix(name, "-tls"), "secret/tls/tls.crt", cert)
}

func (s *secured) nodeAddresses(t *testing.T) (addresses []net.IP) {
	t.Helper()
	nodes, err := s.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		for _, a := range node.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				addresses = append(addresses, net.ParseIP(a.Address))
			}
		}
	}
	return addresses
}

// mounted waits until a file in a volume of each pod of a component has some content. By itself the
// kubelet looks every minute or so; it looks at once at a pod that changes, as by an annotation.
func (s *secured) mounted(t *testing.T, component, file string, want []byte) {
	t.Helper()
	eventually(t, file+" of "+component, mountTime, func(ctx context.Context) error {
		pods, err := s.pods(ctx, component)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			path := fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~%s", pod.UID, file)
			if got, err := onNode(ctx, pod.Spec.NodeName, `cat "$1"`, path); err != nil {
				return err
			} else if bytes.Equal([]byte(got), want) {
				continue
			}
			touch := fmt.Sprintf("touched=%d", time.Now().UnixNano())
			if _, err := try(ctx, "", "kubectl", s.kubectl("annotate", "--overwrite", "pod", pod.Name, touch)...); err != nil {
				return err
			}
			return errors.New("it has the content of before")
		}
		return nil
	})
}

func (s *secured) swap(t *testing.T) {
	s.began = s.verdictNow(t)
	// Traffic is steady in between, so that there are calls of each mode under each certificate.
	ticker := time.NewTicker(swapInterval)
	defer ticker.Stop()
	for range swaps {
		<-ticker.C
		s.authorities = append(s.authorities[1:], apptest.NewAuthority(t))
		began := time.Now()
		s.deliver(t)
		t.Logf("the pods had new certificates after %.1f s", time.Since(began).Seconds())
	}
	s.findsAllRight(t, s.verdictNow(t))
	s.findsAllRight(t, s.began)
}

// environ has a client show a certificate of an authority, and trust the server.
func (s *secured) environ(
	t *testing.T, authority *apptest.Authority, template *x509.Certificate,
) []string {
	t.Helper()
	cert, key := authority.Pair(t, template)
	return s.settings(t, map[string][]byte{
		"RPC_TLS_CERT_FILE": cert, "RPC_TLS_KEY_FILE": key, "RPC_TLS_CA_FILE": s.authorities[1].PEM(),
	}, "RPC_TLS_MODE=mtls")
}

// settings are variables of the client, some of which name files with some content.
func (s *secured) settings(
	t *testing.T, files map[string][]byte, more ...string,
) (environ []string) {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		more = append(more, name+"="+file)
	}
	for _, setting := range more {
		environ = append(environ, quartet.Identity.EnvironmentPrefix()+setting)
	}
	return environ
}

// person is the certificate of a caller.
func person(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	uri, err := url.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{
		URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// checks has the command line check every service, and wants it to succeed, or to say why it does
// not.
func (s *secured) checks(t *testing.T, environ []string, refusal string) {
	t.Helper()
	timeout := "60s"
	if refusal != "" {
		timeout = "15s" // It tries again until then.
	}
	out, err := tryWith(t.Context(), environ, "", s.program, "--server", s.address, "--timeout", timeout, "check")
	switch {
	case refusal == "" && err != nil:
		t.Error(err)
	case refusal != "" && (err == nil || !strings.Contains(out.stdout+out.stderr, refusal)):
		t.Errorf("expected %q, got %v\n%s%s", refusal, err, out.stdout, out.stderr)
	}
}

func (s *secured) refuses(t *testing.T) {
	s.checks(t, s.environ(t, s.authorities[1], person(t, listed)), "")
	expired, serverOnly := person(t, listed), person(t, listed)
	expired.NotAfter = time.Now().Add(-time.Minute)
	serverOnly.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for name, of := range map[string]struct {
		environ []string
		refusal string
	}{
		"none":        {s.trusting(t), "it asks for a certificate, and this client has shown none"},
		"foreign":     {s.environ(t, apptest.NewAuthority(t), person(t, listed)), "it does not trust the authority of this client's certificate"},
		"expired":     {s.environ(t, s.authorities[1], expired), "this client's certificate has expired"},
		"server-only": {s.environ(t, s.authorities[1], serverOnly), "it refuses this client's certificate, which may be one for servers only"},
		"unlisted": {
			s.environ(t, s.authorities[1], person(t, "spiffe://test/unlisted")),
			"not permitted: no rule allows ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.checks(t, of.environ, of.refusal)
		})
	}
}

// trusting is the environment of a client without a certificate.
func (s *secured) trusting(t *testing.T) []string {
	t.Helper()
	return s.settings(t, map[string][]byte{"RPC_TLS_CA_FILE": s.authorities[1].PEM()}, "RPC_TLS_MODE=tls")
}

// bearing is that of one with a token.
func (s *secured) bearing(t *testing.T, token string) []string {
	t.Helper()
	return append(s.trusting(t), s.settings(t, map[string][]byte{"RPC_TOKEN_FILE": []byte(token)})...)
}

func (s *secured) acceptTokens(t *testing.T) {
	keys := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "issuer"}, Data: map[string]string{"jwks.json": string(s.issuer.Keys(t))},
	}
	configMaps := s.kube.CoreV1().ConfigMaps(s.namespace.name)
	if _, err := configMaps.Create(t.Context(), keys, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.began = s.verdictNow(t)
	s.upgrade(t, "--reuse-values", "--set", strings.Join([]string{
		"tokens.issuer=" + tokentest.Name, "tokens.audience=" + tokentest.Audience,
		"tokens.jwks.configMap=issuer", "tokens.certificateOptional=true",
	}, ","))
	s.rolledOut(t, rolloutTime)
	s.findsAllRight(t, s.began)
}

func (s *secured) refusesTokens(t *testing.T) {
	s.checks(t, s.bearing(t, s.issuer.Token(t, "listed")), "")
	s.checks(t, s.environ(t, s.authorities[1], person(t, listed)), "")
	expired := tokentest.Claims("listed")
	expired.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour))
	for name, of := range map[string]struct {
		environ []string
		refusal string
	}{
		"none":     {s.trusting(t), "the call has no bearer token (TOKEN_MISSING)"},
		"foreign":  {s.bearing(t, tokentest.New(t).Token(t, "listed")), "(TOKEN_NOT_TRUSTED)"},
		"expired":  {s.bearing(t, s.issuer.Sign(t, expired)), "the token has expired (TOKEN_EXPIRED)"},
		"unlisted": {s.bearing(t, s.issuer.Token(t, "unlisted")), "not permitted: no rule allows "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.checks(t, of.environ, of.refusal)
		})
	}
}

func (s *secured) permitsMore(t *testing.T) {
	const subject = "unlisted"
	s.permit(t, permission{Callers: []string{"jwt:" + tokentest.Name + "#" + subject}, Methods: []string{"*"}})
	environ := s.bearing(t, s.issuer.Token(t, subject))
	eventually(t, "permission", permissionTime, func(ctx context.Context) error {
		_, err := tryWith(ctx, environ, "", s.program, "--server", s.address, "check")
		return err
	})
}

// permit adds rules to those of the release, in place of those that it has added before, and waits
// until the server's pod has them. The server looks at them once a second.
func (s *secured) permit(t *testing.T, more ...permission) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"allow": slices.Concat(s.rules, more)})
	if err != nil {
		t.Fatal(err)
	}
	name := "q-quartet-server-permissions"
	configMaps := s.kube.CoreV1().ConfigMaps(s.namespace.name)
	permissions, err := configMaps.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	permissions.Data["permissions.json"] = string(content)
	if _, err := configMaps.Update(t.Context(), permissions, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.mounted(t, "server", "configmap/permissions/permissions.json", content)
}
