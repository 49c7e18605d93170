package token

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Why a token is refused. No error has a part of a token in it.
var (
	ErrMissing     = errors.New("the call has no bearer token")
	ErrMalformed   = errors.New("the token is malformed")
	ErrNotTrusted  = errors.New("the token is not from an issuer that the server trusts")
	ErrAudience    = errors.New("the token is for another audience")
	ErrExpired     = errors.New("the token has expired")
	ErrNotYetValid = errors.New("the token is not valid yet")
)

const (
	// largestToken is what a header can hold beside others; tokens of Kubernetes have 1 KiB.
	largestToken = 12 << 10
	// longestSubject is more than names of service accounts have, and than OpenID Connect allows (255).
	longestSubject = 512
	// mostVerified is how many tokens are remembered as verified.
	mostVerified = 4096
)

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg        Config
	log        *slog.Logger
	algorithms []jose.SignatureAlgorithm

	mu       sync.Mutex
	keys     keySet
	version  int    // of the keys, counted up when they have changed
	content  []byte // of the file, when it was read
	problem  string // why the file could not be read the last time, which is logged when it is another one
	verified map[[sha256.Size]byte]jwt.Claims
}

// NewVerifier reads the keys once, so that a mistake ends the start of the process.
func NewVerifier(cfg Config, log *slog.Logger) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg, log: log, verified: map[[sha256.Size]byte]jwt.Claims{}}
	for _, name := range cfg.Algorithms {
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(name))
	}
	var err error
	v.keys, v.content, err = readFile(cfg.JWKSFile, nil)
	return v, err
}

// Reload reads the keys again if their file has changed. The old ones stay in use while the new ones have a mistake.
func (v *Verifier) Reload() {
	v.mu.Lock()
	defer v.mu.Unlock()
	problem := ""
	keys, content, err := readFile(v.cfg.JWKSFile, v.content)
	switch {
	case err != nil:
		problem = err.Error()
	case keys != nil:
		v.keys, v.content = keys, content
		v.version++
		clear(v.verified)
		v.log.Info("keys for tokens reloaded", "file", v.cfg.JWKSFile, "keys", len(keys))
	}
	if problem != "" && problem != v.problem {
		v.log.Error("keys for tokens not reloaded, the old ones stay in use", "error", problem)
	}
	v.problem = problem
}

// Verify returns the identity that a token proves, "jwt:<issuer>#<subject>", or why it is refused: one of the errors above.
func (v *Verifier) Verify(token string) (identity string, err error) {
	claims, err := v.claims(token)
	if err != nil {
		return "", err
	}
	return v.check(claims, time.Now())
}

// claims are those of a token whose signature is right by the keys of today.
func (v *Verifier) claims(token string) (claims jwt.Claims, err error) {
	if len(token) > largestToken {
		return claims, fmt.Errorf("%w: it has more than %d bytes", ErrMalformed, largestToken)
	}
	sum := sha256.Sum256([]byte(token))
	v.mu.Lock()
	claims, known := v.verified[sum]
	keys, version := v.keys, v.version
	v.mu.Unlock()
	if known {
		return claims, nil
	}
	parsed, err := jwt.ParseSigned(token, v.algorithms)
	if _, other := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); other {
		return claims, fmt.Errorf("%w: its algorithm is none of %s", ErrNotTrusted, names(v.algorithms))
	}
	if err != nil || len(parsed.Headers) != 1 {
		return claims, ErrMalformed
	}
	// A token of another issuer says so, whether or not its key has an id of ours.
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return claims, ErrMalformed
	}
	if claims.Issuer != v.cfg.Issuer {
		return claims, fmt.Errorf("%w: it has another one", ErrNotTrusted)
	}
	header := parsed.Headers[0]
	for _, key := range keys.find(header.KeyID, header.Algorithm) {
		claims = jwt.Claims{}
		if parsed.Claims(key.Key, &claims) != nil {
			continue
		}
		v.remember(sum, claims, version)
		return claims, nil
	}
	return jwt.Claims{}, fmt.Errorf("%w: no key of its issuer fits its signature", ErrNotTrusted)
}

// remember spares the next call with the same token the signature, unless the keys have changed meanwhile.
func (v *Verifier) remember(sum [sha256.Size]byte, claims jwt.Claims, version int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if version != v.version {
		return
	}
	if len(v.verified) >= mostVerified {
		clear(v.verified)
	}
	v.verified[sum] = claims
}

// check looks at what the issuer says of a token whose signature is right.
func (v *Verifier) check(claims jwt.Claims, now time.Time) (identity string, err error) {
	switch {
	case claims.Issuer != v.cfg.Issuer:
		return "", ErrNotTrusted
	case !claims.Audience.Contains(v.cfg.Audience):
		return "", ErrAudience
	case claims.Expiry == nil:
		return "", fmt.Errorf("%w: it never expires, its claim exp is missing", ErrMalformed)
	case now.Add(-v.cfg.Leeway).After(claims.Expiry.Time()):
		return "", ErrExpired
	case claims.NotBefore != nil && now.Add(v.cfg.Leeway).Before(claims.NotBefore.Time()):
		return "", ErrNotYetValid
	case claims.Subject == "" || len(claims.Subject) > longestSubject || !isText(claims.Subject):
		return "", fmt.Errorf("%w: its claim sub is no name of 1 to %d bytes", ErrMalformed, longestSubject)
	}
	return Prefix + claims.Issuer + "#" + claims.Subject, nil
}

// Prefix begins the identities of tokens.
const Prefix = "jwt:"

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
