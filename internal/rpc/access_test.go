package rpc

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

const (
	spiffe  = "spiffe://example.com/ns/shop/sa/client"
	dnsName = "client.example.com"
)

// issueNamed writes a certificate with the names of the client, valid until end.
func (f *files) issueNamed(t *testing.T, from authority, end time.Time, usage x509.ExtKeyUsage) {
	t.Helper()
	uri, err := url.Parse(spiffe)
	if err != nil {
		t.Fatal(err)
	}
	f.issueAs(t, from, &x509.Certificate{
		NotAfter: end, ExtKeyUsage: []x509.ExtKeyUsage{usage}, URIs: []*url.URL{uri},
		DNSNames: []string{dnsName},
	})
}

// issueURI writes a certificate of a client whose only name is a URI.
func (f *files) issueURI(t *testing.T, from authority, name string) {
	t.Helper()
	uri, err := url.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	f.issueAs(t, from, &x509.Certificate{
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{uri},
	})
}

// secured is a server with mutual TLS and a client with names of its own.
type secured struct {
	setup
	*running
	authority      authority
	server, client *files
	permissions    string
	logged         *telemetrytest.Log
}

// startSecured starts them; without rules, every caller with a certificate may call everything.
func startSecured(
	t *testing.T, handle func(context.Context) error, rules ...permissionRule,
) *secured {
	t.Helper()
	s := newSecured(t, rules...)
	s.running = s.start(t, handle)
	return s
}

func newSecured(t *testing.T, rules ...permissionRule) *secured {
	t.Helper()
	a := newAuthority(t)
	s := &secured{
		setup: defaults(), authority: a, server: newFiles(t, "mtls", a, a),
		client: newFiles(t, "mtls", a, a), logged: &telemetrytest.Log{},
		permissions: filepath.Join(t.TempDir(), "permissions.json"),
	}
	s.client.issueNamed(t, a, time.Now().Add(time.Hour), x509.ExtKeyUsageClientAuth)
	s.setup.server.TLS, s.setup.client.TLS = s.server.TLSConfig, s.client.TLSConfig
	s.log = slog.New(slog.NewTextHandler(s.logged, nil))
	if rules != nil {
		s.allow(t, rules...)
		s.setup.server.PermissionsFile = s.permissions
	}
	return s
}

func (s *secured) allow(t *testing.T, rules ...permissionRule) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"allow": rules})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, string(content))
}

// write replaces the file whole, as Kubernetes does.
func (s *secured) write(t *testing.T, content string) {
	t.Helper()
	next := s.permissions + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.permissions); err != nil {
		t.Fatal(err)
	}
}

const testService = "grpc.testing.TestService/"

var methodsOfModes = []string{"UnaryCall", "StreamingOutputCall", "StreamingInputCall",
	"FullDuplexCall"}

func TestOnlyPermittedCallersGetThrough(t *testing.T) {
	for i, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			method := testService + methodsOfModes[i]
			for _, test := range []struct {
				name    string
				rule    permissionRule
				allowed bool
			}{
				{"by its URI", permissionRule{Callers: []string{"uri:" + spiffe}, Methods: []string{method}},
					true},
				{"by its DNS name", permissionRule{Callers: []string{"dns:other", "dns:" + dnsName},
					Methods: []string{"x/Y", testService + "*"}}, true},
				{"as any caller", permissionRule{Callers: []string{"*"}, Methods: []string{"*"}}, true},
				{"another caller's", permissionRule{Callers: []string{"uri:" + spiffe + "/x", "uri:" + dnsName},
					Methods: []string{"*"}}, false},
				{"another method's", permissionRule{Callers: []string{"*"},
					Methods: []string{method + "s", testService + "EmptyCall", "grpc.testing.*/*"}}, false},
			} {
				t.Run(test.name, func(t *testing.T) {
					called := false
					s := startSecured(t, func(context.Context) error { called = true; return nil }, test.rule)
					err := mode.call(testContext(t), s.stub, 1)
					if test.allowed {
						if err != nil {
							t.Error(err)
						}
						return
					}
					if status.Code(err) != codes.PermissionDenied || Reason(err) != "NOT_PERMITTED" || called {
						t.Errorf("got %v, and the handler was called: %v", err, called)
					}
					if !strings.Contains(err.Error(), spiffe) {
						t.Errorf("the client is not told by which names it is known: %v", err)
					}
					if got := s.handled(t, methodsOfModes[i], "PermissionDenied"); got != 1 {
						t.Errorf("%v calls are counted", got)
					}
					if logged := s.logged.String(); !strings.Contains(logged, "call not permitted") ||
						!strings.Contains(logged, spiffe) {
						t.Errorf("logged: %s", logged)
					}
				})
			}
		})
	}
}

func TestWithoutPermissionsACertificateIsEnough(t *testing.T) {
	s := startSecured(t, succeed)
	for _, mode := range modes {
		if err := mode.call(testContext(t), s.stub, 1); err != nil {
			t.Errorf("%s: %v", mode.name, err)
		}
	}
}

func TestHealthNeedsNoPermissionAndReflectionDoes(t *testing.T) {
	s := startSecured(t, succeed, permissionRule{Callers: []string{"dns:nobody"},
		Methods: []string{"*"}})
	if _, err := healthpb.NewHealthClient(s.conn).Check(testContext(t),
		&healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	watch, err := healthpb.NewHealthClient(s.conn).Watch(testContext(t),
		&healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Error(err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(testContext(t))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("reflection: %v", err)
	}
	err = s.conn.Invoke(testContext(t), "/grpc.health.v1.Unknown/Method", &grpc_testing.Empty{},
		&grpc_testing.Empty{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a caller learns which methods there are: %v", err)
	}
}

func TestReflectionCanBeTurnedOff(t *testing.T) {
	for on, want := range map[bool]codes.Code{true: codes.OK, false: codes.Unimplemented} {
		s := defaults()
		s.server.Reflection = on
		r := s.start(t, succeed)
		stream, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(listServices) // The answer says why it failed.
		if _, err := stream.Recv(); status.Code(err) != want {
			t.Errorf("reflection is %v: got %v, expected %s", on, err, want)
		}
	}
}

// stay is a handler whose streams last until they are ended.
func stay(entered chan<- struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// open opens a stream of each mode and waits until their handlers run. It returns their errors as
// they end.
func (s *secured) open(ctx context.Context, t *testing.T, entered <-chan struct{}) <-chan error {
	t.Helper()
	ended := make(chan error, len(modes))
	for _, mode := range modes[1:] {
		go func() { ended <- mode.call(ctx, s.stub, 1) }()
		select {
		case <-entered:
		case err := <-ended:
			t.Fatalf("a stream ends before all are open, the last a %s: %v", mode.name, err)
		}
	}
	return ended
}

// wantEnded expects the streams to end within 20 s.
func wantEnded(t *testing.T, ended <-chan error, code codes.Code, reason string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for _, mode := range modes[1:] {
		select {
		case err := <-ended:
			if status.Code(err) != code || Reason(err) != reason {
				t.Errorf("a stream ended with %v, expected %s and %s", err, code, reason)
			}
		case <-timeout:
			t.Fatalf("streams go on after 20 s, such as a %s", mode.name)
		}
	}
}

func TestOpenStreamsEndWhenTheirPermissionIsWithdrawn(t *testing.T) {
	entered := make(chan struct{}, 10)
	all := permissionRule{Callers: []string{"dns:" + dnsName}, Methods: []string{testService + "*"}}
	s := startSecured(t, stay(entered), all)
	ended := s.open(testContext(t), t, entered)

	s.write(t, `{"allow": [{"callers": "all"}]}`)
	eventually(t, "the mistake is logged",
		func() bool { return strings.Contains(s.logged.String(), "permissions not reloaded") })
	select {
	case err := <-ended:
		t.Fatalf("a mistake in the file ends streams: %v", err)
	default:
	}
	s.allow(t, permissionRule{Callers: []string{"dns:" + dnsName},
		Methods: []string{testService + "UnaryCall"}})
	wantEnded(t, ended, codes.PermissionDenied, "NOT_PERMITTED")

	s.allow(t, all)
	eventually(t, "calls are permitted again", func() bool {
		ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
		defer cancel()
		return status.Code(modes[0].call(ctx, s.stub, 1)) == codes.DeadlineExceeded // It holds.
	})
}

func TestOpenStreamsEndWhenTheirAuthorityIsWithdrawn(t *testing.T) {
	entered := make(chan struct{}, 10)
	s := startSecured(t, stay(entered))
	ended := s.open(testContext(t), t, entered)
	next := newAuthority(t)
	s.server.trust(t, next)
	wantEnded(t, ended, codes.Unavailable, "CERTIFICATE_NOT_TRUSTED")
	s.wantEndedFor(t, telemetry.EndCredentials)

	// The connection is closed, and a client that has a certificate of the new authority by now gets
	// through at once.
	s.client.issueNamed(t, next, time.Now().Add(time.Hour), x509.ExtKeyUsageClientAuth)
	eventually(t, "calls get through again", func() bool {
		ctx, cancel := context.WithTimeout(testContext(t), time.Second)
		defer cancel()
		go func() {
			select {
			case <-entered:
				cancel()
			case <-ctx.Done(): // A later call's arrival is not this one's.
			}
		}()
		err := modes[0].call(ctx, s.stub, 1)
		return errors.Is(ctx.Err(), context.Canceled) && status.Code(err) == codes.Canceled
	})
}

func TestOpenStreamsEndWhenTheirCertificateExpires(t *testing.T) {
	entered := make(chan struct{}, 10)
	s := startSecured(t, stay(entered))
	s.client.issueNamed(t, s.authority, time.Now().Add(6*time.Second), x509.ExtKeyUsageClientAuth)
	s.stub = grpc_testing.NewTestServiceClient(s.dial(t, s.address))
	ended := s.open(testContext(t), t, entered)
	select {
	case err := <-ended:
		t.Fatalf("a stream ends while its certificate is valid: %v", err)
	case <-time.After(time.Second):
	}
	wantEnded(t, ended, codes.Unavailable, "CERTIFICATE_EXPIRED")
	s.wantEndedFor(t, telemetry.EndCredentials)
}

func TestAClientIsToldWhyItsCertificateIsRefused(t *testing.T) {
	s := startSecured(t, succeed)
	s.setup.client.UnaryTimeout = 2 * time.Second
	hour := time.Now().Add(time.Hour)
	for _, test := range []struct {
		name, want string
		client     func(f *files)
	}{
		{"none", "tls: certificate required", func(f *files) { f.Mode = "tls" }},
		{"of another authority", "tls: unknown certificate authority",
			func(f *files) { f.issueNamed(t, newAuthority(t), hour, x509.ExtKeyUsageClientAuth) }},
		{"of a server", "tls: bad certificate",
			func(f *files) { f.issueNamed(t, s.authority, hour, x509.ExtKeyUsageServerAuth) }},
		{"expired", "tls: expired certificate", func(f *files) {
			f.issueNamed(t, s.authority, time.Now().Add(-time.Minute), x509.ExtKeyUsageClientAuth)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := newFiles(t, "mtls", s.authority, s.authority)
			test.client(client)
			s.setup.client.TLS = client.TLSConfig
			err := modes[0].call(testContext(t), grpc_testing.NewTestServiceClient(s.dial(t, s.address)), 1)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, expected %q", err, test.want)
			}
		})
	}
}

func TestPermissionsWithAMistakeAreRefused(t *testing.T) {
	for content, want := range map[string]string{
		``:                                    "EOF",
		`[]`:                                  "cannot unmarshal",
		`{"allow": []} true`:                  "after its end",
		`{"deny": []}`:                        `unknown field "deny"`,
		`{"allow": [{"callers": ["dns:x"]}]}`: "allow[0]: needs callers and methods",
		`{"allow": [{"callers": ["*"], "methods": ["*"]}, {"callers": ["x"], "methods": ["a/B"]}]}`: `allow[1]: caller "x" is none of`,
		`{"allow": [{"callers": ["jwt:alice"], "methods": ["a/B"]}]}`:                               `caller "jwt:alice" has no subject`,
		`{"allow": [{"callers": ["dns:"], "methods": ["a/B"]}]}`:                                    `caller "dns:" is none of`,
		`{"allow": [{"callers": ["*"], "methods": ["/a/B"]}]}`:                                      `method "/a/B" is none of`,
		`{"allow": [{"callers": ["*"], "methods": ["a"]}]}`:                                         `method "a" is none of`,
		`{"allow": [{"callers": ["*"], "methods": ["*"], "allow": true}]}`:                          `unknown field "allow"`,
		withNames("*", `{"book": ["a"], "pag": ["a"]}`):                                             `allow[0]: names: kind "pag" is none of book, page`,
		withNames("x.Other/*", `{"book": ["a"]}`):                                                   `no method of this rule uses names of the kind "book"`,
		withNames("grpc.testing.TestService/*", `{"book": []}`):                                     `kind "book" needs patterns`,
		withNames("*", `{"book": ["a", ""]}`):                                                       `pattern "" of kind "book" is neither`,
		withNames("*", `{"book": ["a/*/b"]}`):                                                       `pattern "a/*/b" of kind "book" is neither`,
		withNames("*", `{"book": ["a**"]}`):                                                         `pattern "a**" of kind "book" is neither`,
		withNames("*", `{"book": "a"}`):                                                             "cannot unmarshal",
		withNames("*", `{}`):                                                                        "names: has no kind",
		withNames("*", `null`):                                                                      "names: has no kind",
		strings.Repeat(" ", permissionBytes) +
			`{"allow": [{"callers": ["dns:x"], "methods": ["a/B"]}]}`: "larger than",
	} {
		if _, err := parsePermissions([]byte(content), kindsOfTest); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, expected %q", content, err, want)
		}
	}
	if _, err := parsePermissions([]byte(withNames("*", `{"book": ["a"]}`)), nil); err == nil ||
		!strings.Contains(err.Error(), "no service of this server has names") {
		t.Errorf("names without services that have some: %v", err)
	}
	cfg := defaults().server
	cfg.PermissionsFile = "permissions.json"
	if err := cfg.Validate(); err == nil ||
		!strings.Contains(err.Error(), "PERMISSIONS_FILE: needs TLS_MODE=mtls or TOKEN_ISSUER") {
		t.Errorf("permissions without identities: %v", err)
	}
}

// kindsOfTest are those of a server whose test service has two.
var kindsOfTest = nameKinds{"grpc.testing.TestService": {"page", "book"}, "a": {"book"}}

// withNames is a list with one rule.
func withNames(method, names string) string {
	return fmt.Sprintf(`{"allow": [{"callers": ["*"], "methods": [%q], "names": %s}]}`, method, names)
}

// FuzzPermissions has no input panic, and no caller may call what no rule allows it by its name,
// nor use what no pattern of such a rule matches.
func FuzzPermissions(f *testing.F) {
	f.Add([]byte(`{"allow": [{"callers": ["dns:x"], "methods": ["a/B", "a/*"]}]}`), "dns:x", "/a/B", "n")
	f.Add([]byte(`{"allow": [{"callers": ["*"], "methods": ["*"]}]}`), "uri:y", "/", "")
	f.Add([]byte(`{"allow": [{"callers": ["dns:x"], "methods": ["a/*"]}]}`), "dns:x", "/ab/C", "n")
	f.Add([]byte(`{"allow": [{"callers": ["dns:*"], "methods": ["*/*"]}]}`), "dns:x", "/a/B/C", "n")
	f.Add([]byte(withNames("a/*", `{"book": ["n/*", "m"]}`)), "dns:x", "/a/B", "n/x")
	f.Add([]byte(withNames("a/*", `{"book": ["n/*", "m"]}`)), "dns:x", "/a/B", "mm")
	f.Fuzz(func(t *testing.T, content []byte, caller, method, name string) {
		p, err := parsePermissions(content, kindsOfTest)
		if err != nil || !p.allow([]string{caller}, method, []usedName{{kind: "book", name: name}}) {
			return
		}
		service := strings.TrimPrefix(method, "/")
		service, _, _ = strings.Cut(service, "/")
		if !slices.ContainsFunc(p.rules, func(r permissionRule) bool {
			patterns, restricted := r.Names["book"]
			return (slices.Contains(r.Callers, caller) || slices.Contains(r.Callers, anything)) &&
				(slices.Contains(r.Methods, anything) || slices.Contains(r.Methods, service+"/*") ||
					slices.Contains(r.Methods, strings.TrimPrefix(method, "/"))) &&
				(!restricted || slices.Contains(patterns, name) ||
					slices.ContainsFunc(patterns, func(p string) bool {
						return p[len(p)-1] == '*' && strings.HasPrefix(name, p[:len(p)-1])
					}))
		}) {
			t.Errorf("%q may call %q with %q by %q", caller, method, name, content)
		}
	})
}

// BenchmarkPermission measures what the decision costs beside a call, which takes tens of
// microseconds.
func BenchmarkPermission(b *testing.B) {
	p := &permissions{rules: []permissionRule{
		{Callers: []string{"uri:spiffe://example.com/a", "uri:spiffe://example.com/b"},
			Methods: []string{"a.B/C", "a.B/D"}},
		{Callers: []string{"uri:" + spiffe}, Methods: []string{testService + "*"},
			Names: namePatterns{"book": {"shop/*"}}},
	}}
	for name, used := range map[string][]usedName{
		"without names": nil,
		"with one":      {{kind: "book", name: "shop/cart"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.allow([]string{"uri:" + spiffe}, "/"+testService+"UnaryCall", used) {
					b.Fatal("denied")
				}
			}
		})
	}
}
