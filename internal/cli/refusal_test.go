package cli_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/token/tokentest"
)

// startSecured runs a server that permits the calls of "spiffe://test/listed" and of the token of
// "listed".
func startSecured(t *testing.T, settings ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "permissions.json")
	const list = `{"allow": [{"callers": ["uri:spiffe://test/listed", "jwt:` + tokentest.Name +
		`#listed"], "methods": ["*"]}]}`
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	guest := app.Service{Name: "names", Open: func(context.Context, app.Host) (app.Opened, error) {
		return app.Opened{Service: rpc.Service{Register: func(r grpc.ServiceRegistrar) {
			grpc_testing.RegisterTestServiceServer(r, &fake{})
		}}}, nil
	}}
	settings = append(settings, "TEST_RPC_PERMISSIONS_FILE="+file)
	return apptest.Start(t, telemetry.Discard(), []app.Service{guest}, settings...).Address
}

// TestAPersonIsToldWhichCertificateIsRefusedAndWhy has one sentence for each.
func TestAPersonIsToldWhichCertificateIsRefusedAndWhy(t *testing.T) {
	ours, theirs := apptest.NewAuthority(t), apptest.NewAuthority(t)
	address := startSecured(t, ours.Settings(t)...)
	client := func(
		from *apptest.Authority,
		name string,
		usage x509.ExtKeyUsage,
		end time.Duration,
	) []string {
		return from.ClientSettings(t, ours, "spiffe://test/"+name, usage, time.Now().Add(end))
	}
	const forClients, forServers = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	wantRefused(t, address, client(ours, "listed", forClients, time.Hour), 0, "")
	wantRefused(t, address, client(ours, "unlisted", forClients, time.Hour), 1,
		`test: find "x": not permitted: no rule allows /grpc.testing.TestService/UnaryCall to a caller`+
			" with the names [uri:spiffe://test/unlisted] (NOT_PERMITTED)\n")
	for name, c := range map[string]struct {
		settings []string
		want     string
	}{
		"none": {
			append(client(ours, "listed", forClients, time.Hour), "TEST_RPC_TLS_MODE=tls"),
			": it asks for a certificate, and this client has shown none (",
		},
		"foreign": {
			client(theirs, "listed", forClients, time.Hour),
			": it does not trust the authority of this client's certificate (",
		},
		"expired": {
			client(ours, "listed", forClients, -time.Minute),
			": this client's certificate has expired (",
		},
		"server-only": {
			client(ours, "listed", forServers, time.Hour),
			": it refuses this client's certificate, which may be one for servers only (",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			console := clitest.Terminal{Services: services(), Environ: c.settings}
			told := console.Err.Await("waiting for server at " + address + c.want)
			ended := make(chan int, 1)
			go func() { ended <- console.Run(ctx, address, "find", "x") }()
			select {
			case <-told:
				interrupt()
				<-ended
			case code := <-ended:
				t.Errorf("got %d and %s\nexpected %s", code, &console.Err, c.want)
			}
		})
	}
}

// TestAPersonIsToldWhichTokenIsRefusedAndWhy has one sentence for each.
func TestAPersonIsToldWhichTokenIsRefusedAndWhy(t *testing.T) {
	ours, theirs := tokentest.New(t), tokentest.New(t)
	authority := apptest.NewAuthority(t)
	address := startSecured(t, append(authority.Settings(t), "TEST_RPC_TLS_MODE=tls",
		"TEST_RPC_TOKEN_ISSUER="+tokentest.Name, "TEST_RPC_TOKEN_AUDIENCE="+tokentest.Audience,
		"TEST_RPC_TOKEN_JWKS_FILE="+ours.File)...)
	tls := append(authority.ClientSettings(t, authority, "spiffe://test/unused",
		x509.ExtKeyUsageClientAuth, time.Time{}), "TEST_RPC_TLS_MODE=tls")
	with := func(change func(*jwt.Claims)) string {
		claims := tokentest.Claims("listed")
		change(&claims)
		return ours.Sign(t, claims)
	}
	for name, c := range map[string]struct {
		token string
		code  int
		want  string
	}{
		"listed":  {ours.Token(t, "listed"), 0, ""},
		"missing": {"", 1, `test: find "x": the call has no bearer token (TOKEN_MISSING); --token-file names one` + "\n"},
		"expired": {
			with(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }), 1,
			`test: find "x": the token has expired (TOKEN_EXPIRED)` + "\n",
		},
		"foreign": {
			theirs.Token(t, "listed"), 1,
			`test: find "x": the token is not from an issuer that the server trusts: its signature is wrong` +
				" (TOKEN_NOT_TRUSTED)\n",
		},
		"for another audience": {
			with(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} }), 1,
			`test: find "x": the token is for another audience (TOKEN_WRONG_AUDIENCE)` + "\n",
		},
		"unlisted": {
			ours.Token(t, "unlisted"), 1,
			`test: find "x": not permitted: no rule allows /grpc.testing.TestService/UnaryCall to a caller` +
				" with the names [jwt:https://issuer.example.com#unlisted] (NOT_PERMITTED)\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.token == "" {
				wantRefused(t, address, tls, c.code, c.want)
				return
			}
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(c.token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, address, tls, c.code, c.want, "--token-file", file)
			wantRefused(t, address, append(tls[:len(tls):len(tls)], "TEST_RPC_TOKEN_FILE="+file), c.code, c.want)
		})
	}
}

func TestATokenIsNotSentWithoutTLSOrShown(t *testing.T) {
	issuer := tokentest.New(t)
	address := startSecured(t, "TEST_RPC_TOKEN_PLAINTEXT=true",
		"TEST_RPC_TOKEN_ISSUER="+tokentest.Name, "TEST_RPC_TOKEN_AUDIENCE="+tokentest.Audience,
		"TEST_RPC_TOKEN_JWKS_FILE="+issuer.File)
	raw := issuer.Token(t, "listed")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	const refusal = "TOKEN_FILE: needs TLS_MODE=tls or mtls"
	plaintext := []string{"TEST_RPC_TOKEN_PLAINTEXT=true"}
	wantRefused(t, address, nil, 2, refusal, "--token-file", file)
	wantRefused(t, address, []string{"TEST_RPC_TOKEN_FILE=" + file}, 2, "TEST_RPC_"+refusal)
	wantRefused(t, address, plaintext, 0, "", "--token-file", file)
	wantRefused(t, address, plaintext, 2, "TOKEN_FILE: is a token, expected the name of a file", "--token-file", raw)
	wantRefused(t, address, plaintext, 2, "no such file", "--token-file", file+"x")
}

func wantRefused(
	t *testing.T,
	address string,
	settings []string,
	code int,
	want string,
	args ...string,
) {
	t.Helper()
	c := clitest.Terminal{Services: services(), Environ: settings}
	got := c.Run(t.Context(), address, append([]string{"find", "x"}, args...)...)
	said := c.Err.String()
	last := said[strings.LastIndex(strings.TrimSuffix(said, "\n"), "\n")+1:]
	if got != code || code != 0 && !strings.Contains(last, want) || strings.Contains(said, "eyJ") {
		t.Errorf("got %d and %s\nexpected %d and %s", got, said, code, want)
	}
}
