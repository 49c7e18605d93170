package token_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/quartet/internal/token"
	"example.com/quartet/internal/token/tokentest"
)

func config(i *tokentest.Issuer) token.Config {
	return token.Config{
		Issuer: tokentest.Name, Audience: tokentest.Audience, JWKSFile: i.File,
		Algorithms: []string{"RS256", "ES256", "EdDSA"}, Leeway: 10 * time.Second, MaxLifetime: 8784 * time.Hour,
	}
}

func verifier(t *testing.T, cfg token.Config, log *slog.Logger) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var silent = slog.New(slog.DiscardHandler)

// with is a valid set of claims with some of them changed; nil takes one away.
func with(changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": tokentest.Name,
		"sub": "alice",
		"aud": tokentest.Audience,
		"exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	return claims
}

func TestATokenProvesItsSubject(t *testing.T) {
	i := tokentest.New(t)
	v := verifier(t, config(i), silent)
	now := time.Now()
	for name, c := range map[string]struct {
		changes map[string]any
		want    error
	}{
		"valid":                         {nil, nil},
		"of several audiences":          {map[string]any{"aud": []string{"other", tokentest.Audience}}, nil},
		"expired within the leeway":     {map[string]any{"exp": now.Add(-5 * time.Second).Unix()}, nil},
		"expired":                       {map[string]any{"exp": now.Add(-15 * time.Second).Unix()}, token.ErrExpired},
		"without an end":                {map[string]any{"exp": nil}, token.ErrMalformed},
		"soon valid, within the leeway": {map[string]any{"nbf": now.Add(5 * time.Second).Unix()}, nil},
		"not valid yet":                 {map[string]any{"nbf": now.Add(time.Minute).Unix()}, token.ErrNotYetValid},
		"for another audience":          {map[string]any{"aud": "other"}, token.ErrAudience},
		"for no audience":               {map[string]any{"aud": nil}, token.ErrAudience},
		"of another issuer":             {map[string]any{"iss": tokentest.Name + "/"}, token.ErrNotTrusted},
		"of no issuer":                  {map[string]any{"iss": nil}, token.ErrNotTrusted},
		"of no subject":                 {map[string]any{"sub": nil}, token.ErrMalformed},
		"of a long subject":             {map[string]any{"sub": strings.Repeat("x", 513)}, token.ErrMalformed},
		"of a subject with a line":      {map[string]any{"sub": "a\nb"}, token.ErrMalformed},
		"valid for a year":              {map[string]any{"exp": now.Add(365 * 24 * time.Hour).Unix()}, nil},
		"valid for two years":           {map[string]any{"exp": now.Add(730 * 24 * time.Hour).Unix()}, token.ErrNotTrusted},
		"valid for ever":                {map[string]any{"exp": 1e300}, token.ErrMalformed},
		"valid until a text":            {map[string]any{"exp": "tomorrow"}, token.ErrMalformed},
		"valid from very far away":      {map[string]any{"nbf": int64(1) << 60}, token.ErrNotYetValid},
		"for an audience in capitals":   {map[string]any{"aud": strings.ToUpper(tokentest.Audience)}, token.ErrAudience},
		"of an issuer in capitals":      {map[string]any{"iss": strings.ToUpper(tokentest.Name)}, token.ErrNotTrusted},
		"with a number for a subject":   {map[string]any{"sub": 1}, token.ErrMalformed},
	} {
		raw := i.Sign(t, with(c.changes))
		for _, turn := range []string{"at first", "when its signature is known"} {
			identity, err := v.Check(raw)
			if !errors.Is(err, c.want) || c.want == nil && err != nil ||
				err == nil && identity != "jwt:"+tokentest.Name+"#alice" {
				t.Errorf("a token %s, %s: got %q and %v, expected %v", name, turn, identity, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), raw[:20]) {
				t.Errorf("the error has the token in it: %v", err)
			}
		}
	}
}

// TestForgedTokensAreRefused has nothing accepted that the issuer has not signed.
func TestForgedTokensAreRefused(t *testing.T) {
	i, foreign := tokentest.New(t), tokentest.New(t)
	v := verifier(t, config(i), silent)
	genuine := i.Token(t, "alice")
	header, payload, _ := strings.Cut(genuine, ".")
	payload, signature, _ := strings.Cut(payload, ".")
	encode := func(value any) string {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	embedded := jose.JSONWebKey{Key: foreign.Key, KeyID: i.ID}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: embedded},
		&jose.SignerOptions{EmbedJWK: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	ownKey, err := jwt.Signed(signer).Claims(tokentest.Claims("alice")).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	secret := jose.JSONWebKey{Key: i.Keys(t), KeyID: i.ID}
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"no token":                        {"", token.ErrMalformed},
		"text":                            {"alice", token.ErrMalformed},
		"too long":                        {strings.Repeat("x", 20<<10), token.ErrMalformed},
		"the algorithm none":              {encode(map[string]string{"alg": "none", "kid": i.ID}) + "." + payload + ".", token.ErrNotTrusted},
		"HS256 with the public key":       {tokentest.Sign(t, jose.HS256, secret, tokentest.Claims("alice")), token.ErrNotTrusted},
		"another payload":                 {header + "." + encode(tokentest.Claims("root")) + "." + signature, token.ErrNotTrusted},
		"a signature cut":                 {header + "." + payload + "." + signature[:10], token.ErrNotTrusted},
		"a foreign key with our key's id": {tokentest.Sign(t, jose.ES256, jose.JSONWebKey{Key: foreign.Key, KeyID: i.ID}, tokentest.Claims("alice")), token.ErrNotTrusted},
		"a key that it brings along":      {ownKey, token.ErrNotTrusted},
		"a path for a key's id":           {tokentest.Sign(t, jose.ES256, jose.JSONWebKey{Key: foreign.Key, KeyID: "../../" + i.File}, tokentest.Claims("alice")), token.ErrNotTrusted},
		"an address for a key's id":       {tokentest.Sign(t, jose.ES256, jose.JSONWebKey{Key: foreign.Key, KeyID: "https://example.com/keys"}, tokentest.Claims("alice")), token.ErrNotTrusted},
		"a header of 8 KiB":               {tokentest.Sign(t, jose.ES256, jose.JSONWebKey{Key: i.Key, KeyID: strings.Repeat("k", 8<<10)}, tokentest.Claims("alice")), token.ErrNotTrusted},
		"an algorithm in lower case":      {encode(map[string]string{"alg": "es256", "kid": i.ID}) + "." + payload + "." + signature, token.ErrNotTrusted},
		"no algorithm":                    {encode(map[string]string{"kid": i.ID}) + "." + payload + "." + signature, token.ErrNotTrusted},
		"a header that must be known":     {encode(map[string]any{"alg": "ES256", "kid": i.ID, "crit": []string{"x"}, "x": 1}) + "." + payload + "." + signature, token.ErrNotTrusted},
		"a blank in the middle":           {genuine[:50] + " " + genuine[50:], token.ErrMalformed},
		"a line at the end":               {genuine + "\n", token.ErrMalformed},
		"no signature":                    {header + "." + payload + ".", token.ErrNotTrusted},
		"four parts":                      {genuine + "." + signature, token.ErrMalformed},
		"an unknown key":                  {tokentest.Sign(t, jose.ES256, jose.JSONWebKey{Key: i.Key, KeyID: "other"}, tokentest.Claims("alice")), token.ErrNotTrusted},
	} {
		if identity, err := v.Check(c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: got %q and %v, expected %v", name, identity, err, c.want)
		}
	}
	if _, err := v.Check(genuine); err != nil {
		t.Error(err)
	}
	noID := tokentest.Sign(t, jose.ES256, i.Key, tokentest.Claims("alice"))
	if _, err := v.Check(noID); err != nil {
		t.Errorf("a token that does not name the only key: %v", err)
	}
}

func TestEachAlgorithmIsVerified(t *testing.T) {
	i := tokentest.New(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{
			Key:   rsaKey.Public(),
			KeyID: "rsa",
		},
		{Key: edKey.Public(), KeyID: "ed"},
		{Key: rsaKey.Public(), KeyID: "encryption", Use: "enc"},
	}}
	content, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	i.Write(t, bytes.Replace(content, []byte(`"keys":[`), []byte(`"keys":[{"kty":"new"},`), 1))
	v := verifier(t, config(i), silent)
	for id, c := range map[string]struct {
		algorithm jose.SignatureAlgorithm
		key       any
		want      error
	}{
		"rsa": {jose.RS256, rsaKey, nil}, "ed": {jose.EdDSA, edKey, nil},
		"encryption": {jose.RS256, rsaKey, token.ErrNotTrusted},
		"rsa\n":      {jose.PS256, rsaKey, token.ErrNotTrusted}, // The configuration does not allow it.
	} {
		raw := tokentest.Sign(
			t,
			c.algorithm,
			jose.JSONWebKey{Key: c.key, KeyID: strings.TrimSpace(id)},
			tokentest.Claims("alice"),
		)
		if _, err := v.Check(raw); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: got %v, expected %v", id, err, c.want)
		}
	}
}

func TestKeysAreReadAgainWhenTheirFileChanges(t *testing.T) {
	i := tokentest.New(t)
	var log bytes.Buffer
	v := verifier(t, config(i), slog.New(slog.NewTextHandler(&log, nil)))
	old := i.Token(t, "alice")
	if _, err := v.Check(old); err != nil {
		t.Fatal(err)
	}
	keys := i.Keys(t)
	i.Write(t, []byte(`{"keys": []}`))
	v.Reload()
	v.Reload()
	if _, err := v.Check(old); err != nil {
		t.Errorf("a mistake in the file takes the keys away: %v", err)
	}
	if strings.Count(log.String(), "keys for tokens not read") != 1 {
		t.Errorf("logged: %s", &log)
	}
	i.Write(t, keys)
	i.Rotate(t)
	v.Reload()
	if _, err := v.Check(old); !errors.Is(err, token.ErrNotTrusted) {
		t.Errorf("a token whose key was withdrawn: %v", err)
	}
	if _, err := v.Check(i.Token(t, "alice")); err != nil {
		t.Error(err)
	}
}

func TestKeySetsWithoutAUsableKeyAreRefused(t *testing.T) {
	i := tokentest.New(t)
	for content, want := range map[string]string{
		"":                             "is no JSON Web Key Set",
		"{}":                           "has no public key",
		`{"keys": [1]}`:                "keys[0]: is no JSON Web Key",
		string(unusable(t)["private"]): "is a private or a secret key",
		`{"keys": [` + strings.Repeat("{},", 64) + `{}]}`: "has 65 keys, more than 64",
		strings.Repeat(" ", 256<<10) + string(i.Keys(t)):  "is larger than 262144 bytes",
	} {
		if err := os.WriteFile(i.File, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := token.NewVerifier(config(i), silent); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, expected %q", content, err, want)
		}
	}
}

// unusable are key sets with one key by which no signature may be verified.
func unusable(t *testing.T) map[string][]byte {
	t.Helper()
	private, err := json.Marshal(jose.JSONWebKeySet{
		Keys: []jose.JSONWebKey{{Key: tokentest.New(t).Key, KeyID: "private"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := json.Marshal(jose.JSONWebKeySet{
		Keys: []jose.JSONWebKey{{Key: short.Public(), KeyID: "short"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"private":         private,
		"short":           weak,
		"symmetric":       []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`),
		"no object":       []byte(`{"keys":[1]}`),
		"of a new kind":   []byte(`{"keys":[{"kty":"new"}]}`),
		"not on a curve":  []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`),
		"without a curve": []byte(`{"keys":[{"kty":"EC"}]}`),
		"null":            []byte(`{"keys":[null]}`),
	}
}

// TestAnUnusableKeyDoesNotTakeTheOthersAway has it said once, for as long as it stays.
func TestAnUnusableKeyDoesNotTakeTheOthersAway(t *testing.T) {
	for name, set := range unusable(t) {
		t.Run(name, func(t *testing.T) {
			i := tokentest.New(t)
			_, list, _ := strings.Cut(string(i.Keys(t)), "[")
			i.Write(t, []byte(strings.TrimSuffix(string(set), "]}")+","+list))
			var log bytes.Buffer
			v := verifier(t, config(i), slog.New(slog.NewTextHandler(&log, nil)))
			if _, err := v.Check(i.Token(t, "alice")); err != nil {
				t.Error(err)
			}
			v.Reload()
			v.Reload()
			if logged := log.String(); strings.Count(logged, "cannot be used") != 1 ||
				!strings.Contains(logged, "keys[0]: ") || strings.Contains(logged, "c2VjcmV0") {
				t.Errorf("logged: %s", logged)
			}
		})
	}
}

// TestATokenStaysVerifiedUntilItsKeyIsGone has a new key cost no signature of the others.
func TestATokenStaysVerifiedUntilItsKeyIsGone(t *testing.T) {
	i := tokentest.New(t)
	v := verifier(t, config(i), silent)
	old, oldKeys := i.Token(t, "alice"), i.Keys(t)
	if _, err := v.Check(old); err != nil {
		t.Fatal(err)
	}
	i.Rotate(t)
	_, list, _ := strings.Cut(string(i.Keys(t)), "[")
	i.Write(t, []byte(strings.TrimSuffix(string(oldKeys), "]}")+","+list))
	v.Reload()
	if identity, known, err := v.Known(old); !known || err != nil ||
		identity != "jwt:"+tokentest.Name+"#alice" {
		t.Errorf("beside a new key: %q, %v, %v", identity, known, err)
	}
	if _, known, _ := v.Known(i.Token(t, "alice")); known {
		t.Error("a token is known that was never verified")
	}
	i.Write(t, i.Keys(t))
	v.Reload()
	if _, known, _ := v.Known(old); known {
		t.Error("a token is still known whose key is gone")
	}
}

func TestTheTokensThatAreRememberedAreBoundedAndNotForgottenTogether(t *testing.T) {
	i := tokentest.New(t)
	v := verifier(t, config(i), silent)
	v.Remember(4096)
	for n := range 10 {
		if _, err := v.Check(i.Token(t, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if got := v.Remembered(); got != 4096 {
		t.Errorf("%d tokens are remembered", got)
	}
}

// TestACallerWhoseTokensAreRefusedHoldsUpNoOtherCaller has one caller send forged tokens until they
// are not even looked at, while another one comes with a token that is new.
func TestACallerWhoseTokensAreRefusedHoldsUpNoOtherCaller(t *testing.T) {
	i, foreign := tokentest.New(t), tokentest.New(t)
	foreign.ID = i.ID
	cfg := config(i)
	cfg.MaxRefused = 1
	v := verifier(t, cfg, silent)
	known := i.Token(t, "alice")
	if _, err := v.Verify(t.Context(), "stranger", known); err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for range 50 {
		go func() {
			_, err := v.Verify(t.Context(), "stranger", foreign.Token(t, "alice"))
			results <- err
		}()
	}
	refused, busy := 0, 0
	for range 50 {
		switch err := <-results; {
		case errors.Is(err, token.ErrNotTrusted):
			refused++
		case errors.Is(err, token.ErrBusy):
			busy++
		default:
			t.Error(err)
		}
	}
	// As many as in five seconds, and some for the time that the test takes.
	if refused < 5 || refused > 30 || busy == 0 {
		t.Errorf("%d were verified and refused, %d not even looked at", refused, busy)
	}
	for began := time.Now(); !busyNow(t, v, foreign); {
		if time.Since(began) > time.Minute {
			t.Fatal("forged tokens are verified as fast as they come")
		}
	}
	if _, err := v.Verify(t.Context(), "stranger", known); err != nil {
		t.Errorf("a token that was verified before: %v", err)
	}
	if _, err := v.Verify(t.Context(), "neighbour", i.Token(t, "bob")); err != nil {
		t.Errorf("a new token of another caller: %v", err)
	}
}

// busyNow sends one more forged token.
func busyNow(t *testing.T, v *token.Verifier, foreign *tokentest.Issuer) bool {
	t.Helper()
	_, err := v.Verify(t.Context(), "stranger", foreign.Token(t, "alice"))
	return errors.Is(err, token.ErrBusy)
}

func TestAConfigurationWithAMistakeIsRefused(t *testing.T) {
	i := tokentest.New(t)
	if err := config(i).Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (token.Config{Algorithms: []string{"RS256"}}).Validate(); err != nil {
		t.Errorf("without tokens: %v", err)
	}
	for want, change := range map[string]func(*token.Config){
		"AUDIENCE: needs ISSUER":              func(c *token.Config) { c.Issuer = "" },
		"AUDIENCE: is needed with ISSUER":     func(c *token.Config) { c.Audience = "" },
		"JWKS_FILE: or JWKS_URL":              func(c *token.Config) { c.JWKSFile = "" },
		"JWKS_FILE: has the content":          func(c *token.Config) { c.JWKSFile = `{"keys": []}` },
		`ISSUER="https://a#b"`:                func(c *token.Config) { c.Issuer = "https://a#b" },
		"ALGORITHMS: names none":              func(c *token.Config) { c.Algorithms = nil },
		`ALGORITHMS: "none" is none of RS256`: func(c *token.Config) { c.Algorithms = []string{"none"} },
		`ALGORITHMS: "HS256" is none of`:      func(c *token.Config) { c.Algorithms = []string{"RS256", "HS256"} },
		"LEEWAY=-1s: must be from 0s to 5m":   func(c *token.Config) { c.Leeway = -time.Second },
		"LEEWAY=1h0m0s: must be":              func(c *token.Config) { c.Leeway = time.Hour },
		"MAX_LIFETIME=-1s: must not be":       func(c *token.Config) { c.MaxLifetime = -time.Second },
		"MAX_REFUSED_PER_SECOND=-1: must not": func(c *token.Config) { c.MaxRefused = -1 },
	} {
		cfg := config(i)
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, expected %q", err, want)
		}
	}
}

// FuzzVerify has no input panic, and no identity proved but the one that the issuer has signed.
func FuzzVerify(f *testing.F) {
	i := tokentest.New(f)
	v, err := token.NewVerifier(config(i), silent)
	if err != nil {
		f.Fatal(err)
	}
	genuine := i.Token(f, "alice")
	f.Add(genuine)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, raw string) {
		if identity, err := v.Check(raw); err == nil && !strings.HasSuffix(identity, "#alice") {
			t.Errorf("%q is accepted as %s", raw, identity)
		}
	})
}
