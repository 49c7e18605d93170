package rpc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/token"
	"example.com/quartet/internal/token/tokentest"
)

const jwtAlice = "jwt:" + tokentest.Name + "#alice"

// startTokens starts a server in a TLS mode that accepts the tokens of an issuer, and a client.
func startTokens(
	t *testing.T, mode string, handle func(context.Context) error, rules ...permissionRule,
) (*secured, *tokentest.Issuer) {
	t.Helper()
	issuer := tokentest.New(t)
	s := newSecured(t, rules...)
	s.setup.server.TLS.Mode, s.setup.client.TLS.Mode = mode, mode
	s.setup.server.Tokens = token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSFile: issuer.File,
		Algorithms: []string{"ES256"},
	}
	s.running = s.start(t, handle)
	return s, issuer
}

// bearing is a context whose calls bring a token.
func bearing(t *testing.T, bearer string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(testContext(t), "authorization", "Bearer "+bearer)
}

func wantRefusal(t *testing.T, what string, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || Reason(err) != reason {
		t.Errorf("%s: got %v with the reason %q, expected %s and %s", what, err, Reason(err), code,
			reason)
	}
}

func TestCallsNeedAValidTokenInFourModes(t *testing.T) {
	var seen string
	s, issuer := startTokens(t, "tls",
		func(ctx context.Context) error { seen = CallerOf(ctx).Identity(); return nil },
		permissionRule{Callers: []string{jwtAlice}, Methods: []string{testService + "*"}})
	foreign := tokentest.New(t)
	with := func(change func(*jwt.Claims)) string {
		claims := tokentest.Claims("alice")
		change(&claims)
		return issuer.Sign(t, claims)
	}
	valid := issuer.Token(t, "alice")
	for _, mode := range modes {
		for name, c := range map[string]struct {
			ctx    context.Context
			code   codes.Code
			reason string
		}{
			"valid":   {bearing(t, valid), codes.OK, ""},
			"missing": {testContext(t), codes.Unauthenticated, "TOKEN_MISSING"},
			"not by Bearer": {metadata.AppendToOutgoingContext(testContext(t), "authorization",
				"Basic YTpi"), codes.Unauthenticated, "TOKEN_MALFORMED"},
			"two": {metadata.AppendToOutgoingContext(bearing(t, valid), "authorization",
				"Bearer "+valid), codes.Unauthenticated, "TOKEN_MALFORMED"},
			"text": {bearing(t, "alice"), codes.Unauthenticated, "TOKEN_MALFORMED"},
			"foreign": {bearing(t, foreign.Token(t, "alice")), codes.Unauthenticated,
				"TOKEN_NOT_TRUSTED"},
			"expired": {bearing(t,
				with(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) })),
				codes.Unauthenticated, "TOKEN_EXPIRED"},
			"not yet valid": {bearing(t,
				with(func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Minute)) })),
				codes.Unauthenticated, "TOKEN_NOT_YET_VALID"},
			"other audience": {bearing(t, with(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} })),
				codes.Unauthenticated, "TOKEN_WRONG_AUDIENCE"},
			"without a right": {bearing(t, issuer.Token(t, "mallory")), codes.PermissionDenied,
				"NOT_PERMITTED"},
		} {
			seen = ""
			wantRefusal(t, mode.name+", "+name, mode.call(c.ctx, s.stub, 1), c.code, c.reason)
			if want := map[bool]string{true: jwtAlice}[c.code == codes.OK]; seen != want {
				t.Errorf("%s, %s: the handler is called by %q, expected %q", mode.name, name, seen, want)
			}
		}
	}
	if logged := s.logged.String(); strings.Contains(logged, valid[:20]) ||
		!strings.Contains(logged, "#mallory") {
		t.Errorf("logged: %s", logged)
	}
	if _, err := healthpb.NewHealthClient(s.conn).Check(testContext(t),
		&healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health needs a token: %v", err)
	}
	for _, ctx := range []context.Context{testContext(t), bearing(t, issuer.Token(t, "mallory"))} {
		err := s.conn.Invoke(ctx, "/grpc.health.v1.Unknown/Method", &grpc_testing.Empty{},
			&grpc_testing.Empty{})
		if code := status.Code(err); code != codes.Unauthenticated && code != codes.PermissionDenied {
			t.Errorf("a caller learns which methods there are: %v", err)
		}
	}
}

func TestATokenSpeaksForACallThatHasACertificateToo(t *testing.T) {
	var seen string
	s, issuer := startTokens(t, "mtls",
		func(ctx context.Context) error { seen = CallerOf(ctx).Identity(); return nil },
		permissionRule{Callers: []string{"dns:" + dnsName}, Methods: []string{testService + "UnaryCall"}},
		permissionRule{Callers: []string{jwtAlice}, Methods: []string{testService + "EmptyCall"}})
	empty := func(ctx context.Context) error {
		_, err := s.stub.EmptyCall(ctx, &grpc_testing.Empty{})
		return err
	}
	unary := func(ctx context.Context) error { return modes[0].call(ctx, s.stub, 1) }

	wantRefusal(t, "by certificate, as it may", unary(testContext(t)), codes.OK, "")
	if seen != "uri:"+spiffe {
		t.Errorf("the handler is called by %q", seen)
	}
	wantRefusal(t, "by certificate, as the token may", empty(testContext(t)), codes.PermissionDenied,
		"NOT_PERMITTED")
	wantRefusal(t, "by token, as it may", empty(bearing(t, issuer.Token(t, "alice"))), codes.OK, "")
	if seen != jwtAlice {
		t.Errorf("the handler is called by %q", seen)
	}
	wantRefusal(t, "by token, as the certificate may", unary(bearing(t, issuer.Token(t, "alice"))),
		codes.PermissionDenied, "NOT_PERMITTED")
	wantRefusal(t, "by a foreign token", unary(bearing(t, tokentest.New(t).Token(t, "alice"))),
		codes.Unauthenticated, "TOKEN_NOT_TRUSTED")
}

func TestACertificateMayBeLeftOutForAToken(t *testing.T) {
	s := newSecured(t)
	issuer := tokentest.New(t)
	s.setup.client.TLS.Mode = "tls"
	s.setup.server.Tokens = token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSFile: issuer.File,
		Algorithms: []string{"ES256"}, CertificateOptional: true,
	}
	s.running = s.start(t, succeed)
	wantRefusal(t, "with neither", modes[0].call(testContext(t), s.stub, 1), codes.Unauthenticated,
		"TOKEN_MISSING")
	wantRefusal(t, "with a token", modes[0].call(bearing(t, issuer.Token(t, "alice")), s.stub, 1),
		codes.OK, "")

	s.setup.client.TLS.Mode = "mtls"
	with := grpc_testing.NewTestServiceClient(s.dial(t, s.address))
	wantRefusal(t, "with a certificate", modes[0].call(testContext(t), with, 1), codes.OK, "")
}

func TestOpenStreamsEndWithTheirToken(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(t *testing.T, s *secured, issuer *tokentest.Issuer)
		code   codes.Code
		reason string
	}{
		"when it expires": {func(*testing.T, *secured, *tokentest.Issuer) {}, codes.Unavailable,
			"TOKEN_EXPIRED"},
		"when its key is withdrawn": {func(t *testing.T, _ *secured,
			issuer *tokentest.Issuer) {
			issuer.Rotate(t)
		}, codes.Unavailable, "TOKEN_NOT_TRUSTED"},
		"when its permission is withdrawn": {func(t *testing.T, s *secured, _ *tokentest.Issuer) {
			s.allow(t, permissionRule{Callers: []string{"jwt:x#y"}, Methods: []string{"*"}})
		}, codes.PermissionDenied, "NOT_PERMITTED"},
	} {
		t.Run(name, func(t *testing.T) {
			entered := make(chan struct{}, 10)
			s, issuer := startTokens(t, "tls", stay(entered),
				permissionRule{Callers: []string{jwtAlice}, Methods: []string{"*"}})
			claims := tokentest.Claims("alice")
			if c.reason == "TOKEN_EXPIRED" {
				// It is cut to whole seconds, and all streams have to be open by then.
				claims.Expiry = jwt.NewNumericDate(time.Now().Add(5 * time.Second))
			}
			ended := s.open(bearing(t, issuer.Sign(t, claims)), t, entered)
			c.end(t, s, issuer)
			wantEnded(t, ended, c.code, c.reason)
			if c.code == codes.Unavailable {
				s.wantEndedFor(t, telemetry.EndCredentials)
			}
		})
	}
}

// TestNoCertificateHasTheIdentityOfAToken keeps shares and repeated messages of the two apart.
func TestNoCertificateHasTheIdentityOfAToken(t *testing.T) {
	var seen []string
	s, issuer := startTokens(t, "mtls", func(ctx context.Context) error {
		seen = append(seen, CallerOf(ctx).Identity())
		return nil
	})
	s.client.issueURI(t, s.authority, jwtAlice)
	imitating := grpc_testing.NewTestServiceClient(s.dial(t, s.address))
	for _, ctx := range []context.Context{testContext(t), bearing(t, issuer.Token(t, "alice"))} {
		if err := modes[0].call(ctx, imitating, 1); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(seen) != fmt.Sprint([]string{"uri:" + jwtAlice, jwtAlice}) {
		t.Errorf("got %q", seen)
	}
}

func TestTokensWithoutTLSAreRefused(t *testing.T) {
	cfg := defaults().server
	cfg.Tokens = token.Config{Issuer: "x"}
	if err := cfg.Validate(); err == nil ||
		!strings.Contains(err.Error(), "TOKEN_ISSUER: needs TLS_MODE=tls or mtls") {
		t.Errorf("tokens in plaintext: %v", err)
	}
	cfg.Tokens.Plaintext = true
	if err := cfg.encryptTokens(); err != nil {
		t.Errorf("tokens in plaintext on purpose: %v", err)
	}
	cfg.Tokens.CertificateOptional = true
	if err := cfg.Validate(); err == nil ||
		!strings.Contains(err.Error(), "TOKEN_CERTIFICATE_OPTIONAL: needs TLS_MODE=mtls") {
		t.Errorf("an optional certificate without mtls: %v", err)
	}
}

// TestPlaintextTokensNameTheirCaller is for development, and for what is behind something that ends
// TLS.
func TestPlaintextTokensNameTheirCaller(t *testing.T) {
	issuer := tokentest.New(t)
	s := defaults()
	s.server.Tokens = token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSFile: issuer.File,
		Algorithms: []string{"ES256"}, Plaintext: true,
	}
	r := s.start(t, succeed)
	wantRefusal(t, "without a token", modes[0].call(testContext(t), r.stub, 1), codes.Unauthenticated,
		"TOKEN_MISSING")
	wantRefusal(t, "with a token", modes[0].call(bearing(t, issuer.Token(t, "alice")), r.stub, 1),
		codes.OK, "")
}

func TestAClientSendsTheTokenInItsFileUnlessACallHasItsOwn(t *testing.T) {
	var seen string
	s, issuer := startTokens(t, "tls",
		func(ctx context.Context) error { seen = CallerOf(ctx).Identity(); return nil })
	s.setup.client.TokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(s.setup.client.TokenFile, []byte(issuer.Token(t, "alice")+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	stub := grpc_testing.NewTestServiceClient(s.dial(t, s.address))
	for _, mode := range modes {
		for want, ctx := range map[string]context.Context{"alice": testContext(t),
			"bob": bearing(t, issuer.Token(t, "bob"))} {
			wantRefusal(t, mode.name+" of "+want, mode.call(ctx, stub, 1), codes.OK, "")
			if seen != "jwt:"+tokentest.Name+"#"+want {
				t.Errorf("%s: the handler is called by %q, expected %s", mode.name, seen, want)
			}
		}
	}
}
