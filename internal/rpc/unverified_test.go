package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry/telemetrytest"
	"example.com/quartet/internal/token"
	"example.com/quartet/internal/token/tokentest"
)

// plaintextTokens are the settings of a server that accepts the tokens of an issuer without TLS.
func plaintextTokens(issuer *tokentest.Issuer) (setup, *telemetrytest.Log) {
	s, logged := defaults(), &telemetrytest.Log{}
	s.log = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.server.Tokens = token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSFile: issuer.File,
		Algorithms: []string{"ES256"}, Plaintext: true, MaxRefused: 1,
	}
	return s, logged
}

// fake verifies tokens as a test wants.
type fake struct {
	verifier
	verify, check func() (string, error)
}

func (f *fake) Verify(context.Context, any, string) (string, error) { return f.verify() }
func (f *fake) Check(string) (string, error)                        { return f.check() }
func (*fake) Ready() bool                                           { return true }
func (*fake) Reload()                                               {}

func alice() (string, error) { return jwtAlice, nil }

// TestAPanicInAParserIsInternalInFourModes has the parser of tokens or of messages panic, both of
// which run outside of handlers.
func TestAPanicInAParserIsInternalInFourModes(t *testing.T) {
	for what, prepare := range map[string]func(*Server, *atomic.Bool){
		"token": func(s *Server, broken *atomic.Bool) {
			s.access.tokens = &fake{verify: func() (string, error) {
				if broken.Load() {
					panic("an odd token")
				}
				return jwtAlice, nil
			}, check: alice}
		},
		"message": func(s *Server, broken *atomic.Bool) {
			s.incoming.codec = brokenCodec{s.incoming.codec, broken}
		},
	} {
		for i, mode := range modes {
			t.Run(what+" "+mode.name, func(t *testing.T) {
				issuer := tokentest.New(t)
				s, logged := plaintextTokens(issuer)
				var broken atomic.Bool
				s.prepare = func(server *Server) { prepare(server, &broken) }
				r := s.start(t, succeed)
				ctx := bearing(t, issuer.Token(t, "alice"))
				broken.Store(true)
				st := status.Convert(mode.call(ctx, r.stub, 1))
				if st.Code() != codes.Internal || st.Message() != internalText {
					t.Errorf("got %v", st)
				}
				broken.Store(false)
				if err := mode.call(ctx, r.stub, 1); err != nil {
					t.Errorf("the next call: %v", err)
				}
				eventually(t, "it is counted", func() bool {
					return r.handled(t, methodsOfModes[i], "Internal") == 1
				})
				if text := logged.String(); !strings.Contains(text, "panic=\"an odd "+what) ||
					!strings.Contains(text, "unverified_test.go") {
					t.Errorf("logged: %s", text)
				}
			})
		}
	}
}

type brokenCodec struct {
	encoding.CodecV2
	broken *atomic.Bool
}

func (c brokenCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, health := v.(*healthpb.HealthCheckRequest); !health && c.broken.Load() {
		panic("an odd message")
	}
	return c.CodecV2.Unmarshal(data, v)
}

func TestAnOpenStreamWhoseTokenMakesTheParserPanicEndsAlone(t *testing.T) {
	issuer := tokentest.New(t)
	s, _ := plaintextTokens(issuer)
	s.prepare = func(server *Server) {
		server.access.tokens = &fake{verify: alice, check: func() (string, error) { panic("odd") }}
	}
	entered := make(chan struct{}, 1)
	r := s.start(t, stay(entered))
	ended := make(chan error, 1)
	ctx := bearing(t, issuer.Token(t, "alice"))
	go func() { ended <- modes[3].call(ctx, r.stub, 1) }()
	<-entered
	if err := <-ended; status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}

// TestCallsBeginWhileOpenStreamsAreCheckedAgain has the check of one never return.
func TestCallsBeginWhileOpenStreamsAreCheckedAgain(t *testing.T) {
	issuer := tokentest.New(t)
	s, _ := plaintextTokens(issuer)
	checking, release := make(chan struct{}, 10), make(chan struct{})
	s.prepare = func(server *Server) {
		server.access.tokens = &fake{verify: alice, check: func() (string, error) {
			checking <- struct{}{}
			<-release
			return jwtAlice, nil
		}}
	}
	entered, stays := make(chan struct{}, 1), make(chan struct{})
	r := s.start(t, func(ctx context.Context) error {
		select {
		case entered <- struct{}{}: // The first call stays.
			close(stays)
			<-ctx.Done()
			return ctx.Err()
		default:
			return nil
		}
	})
	bearer := issuer.Token(t, "alice")
	open, stop := context.WithCancel(bearing(t, bearer))
	go func() { _ = modes[3].call(open, r.stub, 1) }()
	<-stays
	<-checking
	for _, mode := range modes {
		if err := mode.call(bearing(t, bearer), r.stub, 1); err != nil {
			t.Errorf("%s: %v", mode.name, err)
		}
	}
	close(release)
	stop()
}

// TestAnAddressThatSendsBadTokensIsHeldBackAlone has one address send forged tokens until it is
// told to come back.
func TestAnAddressThatSendsBadTokensIsHeldBackAlone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	issuer, foreign := tokentest.New(t), tokentest.New(t)
	foreign.ID = issuer.ID
	s, _ := plaintextTokens(issuer)
	r := s.start(t, succeed)
	stranger, neighbour := dialFrom(t, "127.0.0.2", r.address), dialFrom(t, "127.0.0.3", r.address)
	known, forged := issuer.Token(t, "alice"), foreign.Token(t, "alice")
	for _, mode := range modes {
		wantRefusal(t, "a token that will be known", mode.call(bearing(t, known), stranger, 1), codes.OK,
			"")
		var err error
		for status.Code(err) != codes.ResourceExhausted {
			if err = mode.call(bearing(t, forged), stranger, 1); status.Code(err) != codes.Unauthenticated &&
				status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("%s: %v", mode.name, err)
			}
		}
		wantRefusal(t, mode.name+" beyond its share", err, codes.ResourceExhausted, "OVERLOADED")
		if !IsBusy(err) || RetryDelay(err) <= 0 {
			t.Errorf("%s: it is not told when to come back: %v", mode.name, err)
		}
		wantRefusal(t, mode.name+" of a known token", mode.call(bearing(t, known), stranger, 1),
			codes.OK, "")
		wantRefusal(t, mode.name+" of a neighbour's new token",
			mode.call(bearing(t, issuer.Token(t, mode.name)), neighbour, 1), codes.OK, "")
	}
}

// TestAServerWithoutKeysIsNotReady has the issuer be down at first.
func TestAServerWithoutKeysIsNotReady(t *testing.T) {
	issuer := tokentest.New(t)
	var up atomic.Bool
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(issuer.Keys(t)) // The client says if it fails.
	}))
	defer keys.Close()
	s, logged := plaintextTokens(issuer)
	s.server.Tokens.JWKSFile, s.server.Tokens.JWKSURL = "", keys.URL
	s.server.Tokens.JWKSInterval = time.Hour
	r := s.start(t, succeed)
	direct := narrow(t, r.address) // which calls a server that is not ready, too
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		answer, err := healthpb.NewHealthClient(direct).Check(testContext(t),
			&healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetStatus()
	}
	const read = "test_token_keys_last_read_timestamp_seconds"
	if got, ok := gauge(t, r.telemetry, read, "url"); !ok || got != 0 {
		t.Errorf("the keys were read at %v", got)
	}
	if got, _ := gauge(t, r.telemetry, "test_token_keys_read_interval_seconds", "url"); got != 3600 {
		t.Errorf("they are read every %v s", got)
	}
	if got := health(); got != healthpb.HealthCheckResponse_NOT_SERVING ||
		!strings.Contains(logged.String(), "not ready: there are no keys for tokens yet") {
		t.Errorf("%s, logged %s", got, logged)
	}
	stub := grpc_testing.NewTestServiceClient(direct)
	wantRefusal(t, "a call", modes[0].call(bearing(t, issuer.Token(t, "alice")), stub, 1),
		codes.Unavailable, "TOKEN_KEYS_UNAVAILABLE")
	up.Store(true)
	eventually(t, "it is ready", func() bool {
		return health() == healthpb.HealthCheckResponse_SERVING
	})
	if err := modes[0].call(bearing(t, issuer.Token(t, "alice")), r.stub, 1); err != nil {
		t.Error(err)
	}
	if got, _ := gauge(t, r.telemetry, read, "url"); time.Since(time.Unix(int64(got), 0)) >
		time.Minute {
		t.Errorf("the keys were read at %v", got)
	}
	r.server.Health().SetServing(false)
	if got := health(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("a server that stops is %s", got)
	}
}

// TestCallersWithCertificatesNeedNoKeys has the keys for tokens, which other callers have, be away.
func TestCallersWithCertificatesNeedNoKeys(t *testing.T) {
	s := newSecured(t)
	s.setup.server.Tokens = token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSURL: "https://127.0.0.1:1/keys",
		Algorithms: []string{"ES256"}, JWKSInterval: time.Hour, CertificateOptional: true,
	}
	r := s.start(t, succeed)
	answer, err := healthpb.NewHealthClient(r.conn).Check(testContext(t),
		&healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%s, %v", answer.GetStatus(), err)
	}
	if err := modes[0].call(testContext(t), r.stub, 1); err != nil {
		t.Error(err)
	}
}

// TestHeadersThatAreNoTokenAreRefusedAndNotLogged has the log write everything.
func TestHeadersThatAreNoTokenAreRefusedAndNotLogged(t *testing.T) {
	issuer := tokentest.New(t)
	s, logged := plaintextTokens(issuer)
	s.server.Tokens.MaxRefused = 0
	r := s.start(t, succeed)
	valid := issuer.Token(t, "alice")
	half := len(valid) / 2
	for _, c := range []struct {
		name    string
		headers []string
		code    codes.Code
		reason  string
	}{
		{"as usual", []string{"Bearer " + valid}, codes.OK, ""},
		{"in lower case", []string{"bearer " + valid}, codes.OK, ""},
		{"in upper case", []string{"BEARER " + valid}, codes.OK, ""},
		{"two blanks", []string{"Bearer  " + valid}, codes.OK, ""},
		{"no header", nil, codes.Unauthenticated, "TOKEN_MISSING"},
		{"an empty header", []string{""}, codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"no scheme", []string{valid}, codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"no token", []string{"Bearer "}, codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"another scheme", []string{"Token " + valid}, codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"a blank in the token", []string{"Bearer " + valid[:half] + " " + valid[half:]},
			codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"two tokens in a header", []string{"Bearer " + valid + ", Bearer " + valid},
			codes.Unauthenticated, "TOKEN_MALFORMED"},
		{"two headers", []string{"Bearer " + valid, "Bearer " + valid}, codes.Unauthenticated,
			"TOKEN_MALFORMED"},
		{"a second header that is none", []string{"Bearer " + valid, ""}, codes.Unauthenticated,
			"TOKEN_MALFORMED"},
		{"13 KiB", []string{"Bearer " + strings.Repeat("x", 13<<10)}, codes.Unauthenticated,
			"TOKEN_MALFORMED"},
		{"8 KiB behind a valid one", []string{"Bearer " + valid + strings.Repeat("A", 8<<10)},
			codes.Unauthenticated, "TOKEN_NOT_TRUSTED"},
	} {
		for _, mode := range modes {
			ctx := testContext(t)
			for _, header := range c.headers {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
			}
			wantRefusal(t, c.name+", "+mode.name, mode.call(ctx, r.stub, 1), c.code, c.reason)
		}
	}
	text := logged.String()
	for _, part := range append(strings.Split(valid, "."), valid[half:half+20],
		strings.Repeat("x", 20)) {
		if strings.Contains(text, part[:20]) {
			t.Errorf("a part of a token is logged: %s", text)
		}
	}
	if !strings.Contains(text, "TestService") {
		t.Error("no refused call is logged, so that the test says nothing")
	}
}

// TestARequestIsOfTheIdentityInItsTokenOnceThatWasVerified is for the turns of the web port, which
// come before a token is verified.
func TestARequestIsOfTheIdentityInItsTokenOnceThatWasVerified(t *testing.T) {
	issuer := tokentest.New(t)
	s, _ := plaintextTokens(issuer)
	r := s.start(t, succeed)
	bearer := issuer.Token(t, "alice")
	request := httptest.NewRequest(http.MethodPost, "/x/Y", nil)
	request.RemoteAddr = "192.0.2.1:1234"
	request.Header.Set("Authorization", "Bearer "+bearer)
	if got := r.server.CallerOfRequest(request); got != CallerAt(request.RemoteAddr) {
		t.Errorf("with a token that is new, it is of %+v", got)
	}
	if err := modes[0].call(bearing(t, bearer), r.stub, 1); err != nil {
		t.Fatal(err)
	}
	if got := r.server.CallerOfRequest(request); got.Identity() != jwtAlice {
		t.Errorf("with a token that is known, it is of %+v", got)
	}
	request.Header.Add("Authorization", "Bearer "+bearer)
	if got := r.server.CallerOfRequest(request); got != CallerAt(request.RemoteAddr) {
		t.Errorf("with two tokens, it is of %+v", got)
	}
}
