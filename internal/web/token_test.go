package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/token/tokentest"
)

// startTokens starts a server whose web port accepts tokens in plaintext; alice may call one
// method.
func startTokens(
	t *testing.T, held *service, rules ...string,
) (*apptest.Server, *tokentest.Issuer) {
	t.Helper()
	issuer := tokentest.New(t)
	file := filepath.Join(t.TempDir(), "permissions.json")
	var list struct {
		Allow []map[string][]string `json:"allow"`
	}
	for _, method := range rules {
		list.Allow = append(list.Allow, map[string][]string{
			"callers": {"jwt:" + tokentest.Name + "#alice"}, "methods": {method},
		})
	}
	content, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	apptest.WritePermissions(t, file, string(content))
	return startWithTokens(t, held, issuer, file), issuer
}

func startWithTokens(
	t *testing.T, held *service, issuer *tokentest.Issuer, permissions string,
) *apptest.Server {
	t.Helper()
	return start(t, held, "TEST_RPC_TOKEN_PLAINTEXT=true", "TEST_RPC_TOKEN_ISSUER="+tokentest.Name,
		"TEST_RPC_TOKEN_AUDIENCE="+tokentest.Audience, "TEST_RPC_TOKEN_JWKS_FILE="+issuer.File,
		"TEST_RPC_TOKEN_LEEWAY=0s", "TEST_RPC_PERMISSIONS_FILE="+permissions)
}

func TestTokensHoldForBrowsersToo(t *testing.T) {
	s, issuer := startTokens(t, &service{}, "grpc.testing.TestService/UnaryCall")
	alice := "Bearer " + issuer.Token(t, "alice")
	foreign := "Bearer " + tokentest.New(t).Token(t, "alice")
	const invalid = `Bearer error="invalid_token"`
	for name, c := range map[string]struct {
		method, authorization string
		status                int
		code, challenge       string
	}{
		"a token":         {unary, alice, 200, "", ""},
		"no token":        {unary, "", 401, "unauthenticated", "Bearer"},
		"a foreign token": {unary, foreign, 401, "unauthenticated", invalid},
		"another scheme":  {unary, "Basic YTpi", 401, "unauthenticated", invalid},
		"a method that is not permitted": {methods + "EmptyCall", alice, 403,
			"permission_denied", ""},
		"an unknown method and no token": {methods + "Nothing", "", 401, "unauthenticated",
			"Bearer"},
		"an unknown method and a foreign token": {methods + "Nothing", foreign, 401, "unauthenticated",
			invalid},
		"an unknown method that is no one's": {methods + "Nothing", alice, 403, "permission_denied",
			""},
		"an unknown service and no token": {"/no.Such/Service", "", 401, "unauthenticated",
			"Bearer"},
		"no method and no token": {"/", "", 401, "unauthenticated", "Bearer"},
		"health without a token": {"/grpc.health.v1.Health/Check", "", 200, "", ""},
		"an unknown method of health's neighbour": {"/grpc.health.v1.Other/Check", "", 401,
			"unauthenticated", "Bearer"},
	} {
		for _, h2c := range []bool{false, true} {
			headers := []string{"Authorization", c.authorization}
			if c.authorization == "" {
				headers = nil
			}
			response, body := post(t, over(t, h2c, local), s, c.method, "application/json",
				strings.NewReader("{}"), headers...)
			challenge := response.Header.Get("WWW-Authenticate")
			if response.StatusCode != c.status || !strings.HasPrefix(challenge, c.challenge) ||
				(c.challenge == "") != (challenge == "") {
				t.Errorf("%s: got %d with the challenge %q and %s", name, response.StatusCode, challenge, body)
			}
			if c.code != "" {
				wantJSON(t, body, "code", c.code)
				if !strings.Contains(body, `"google.rpc.ErrorInfo"`) {
					t.Errorf("%s: no reason in %s", name, body)
				}
			}
		}
	}
}

func TestAnUnknownMethodIsToldToThoseThatMayCallIt(t *testing.T) {
	s, issuer := startTokens(t, &service{}, "grpc.testing.TestService/*")
	response, body := post(t, over(t, true, local), s, methods+"Nothing", "application/json",
		strings.NewReader("{}"),
		"Authorization", "Bearer "+issuer.Token(t, "alice"))
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("got %d and %s", response.StatusCode, body)
	}
	wantJSON(t, body, "code", "unimplemented")
}

// TestARefusalTellsNoStrangerOfAMethod has requests refused for what the server does not take. A
// caller without a token cannot tell by that which methods there are.
func TestARefusalTellsNoStrangerOfAMethod(t *testing.T) {
	s, _ := startTokens(t, &service{}, "grpc.testing.TestService/*")
	for _, contentType := range []string{"text/plain", "application/connect+yaml"} {
		for _, method := range []string{unary, methods + "Nothing"} {
			response, body := post(t, over(t, true, local), s, method, contentType,
				strings.NewReader("{}"))
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s, %s: got %d and %s", method, contentType, response.StatusCode, body)
			}
			wantJSON(t, body, "code", "unauthenticated")
		}
	}
}

// TestEachProtocolBringsATokensRefusal has streams and unary calls refused in the words of their
// protocol.
func TestEachProtocolBringsATokensRefusal(t *testing.T) {
	s, issuer := startTokens(t, &service{}, "grpc.testing.TestService/*")
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			call := func(token string) error {
				request := connect.NewRequest(&grpc_testing.SimpleRequest{})
				if token != "" {
					request.Header().Set("Authorization", "Bearer "+token)
				}
				_, err := unaryClient(t, s, p).CallUnary(apptest.Deadline(t), request)
				return err
			}
			if err := call(issuer.Token(t, "alice")); err != nil {
				t.Error(err)
			}
			wantError(t, call(""), connect.CodeUnauthenticated, "TOKEN_MISSING")
			wantError(t, call("alice"), connect.CodeUnauthenticated, "TOKEN_MALFORMED")
			wantError(t, call(issuer.Token(t, "mallory")), connect.CodePermissionDenied, "NOT_PERMITTED")
			stream, err := openDownload(apptest.Deadline(t), t, s, p, "")
			if err == nil {
				for stream.Receive() {
					t.Error("a stream without a token gets a message")
				}
				err = stream.Err()
			}
			wantError(t, err, connect.CodeUnauthenticated, "TOKEN_MISSING")
		})
	}
}

func TestAnOpenStreamOfABrowserEndsWithItsToken(t *testing.T) {
	held := &service{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s, issuer := startTokens(t, held, "grpc.testing.TestService/*")
	claims := tokentest.Claims("alice")
	// It is cut to whole seconds, and the stream has to be open by then.
	claims.Expiry = jwt.NewNumericDate(time.Now().Add(5 * time.Second))
	stream, err := openDownload(apptest.Deadline(t), t, s, protocols[1], issuer.Sign(t, claims))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	<-held.entered
	if stream.Receive() {
		t.Error("the stream goes on")
	}
	wantError(t, stream.Err(), connect.CodeUnavailable, "TOKEN_EXPIRED")
}

func openDownload(
	ctx context.Context, t *testing.T, s *apptest.Server, p protocol, token string,
) (*connect.ServerStreamForClient[grpc_testing.StreamingOutputCallResponse], error) {
	t.Helper()
	request := connect.NewRequest(sizes(1, 1))
	if token != "" {
		request.Header().Set("Authorization", "Bearer "+token)
	}
	return downloadClient(t, s, p).CallServerStream(ctx, request)
}
