package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"example.com/quartet/internal/reload"
)

// Why a token is refused. No error has a part of a token in it.
var (
	ErrMissing     = errors.New("the call has no bearer token")
	ErrMalformed   = errors.New("the token is malformed")
	ErrNotTrusted  = errors.New("the token is not from an issuer that the server trusts")
	ErrAudience    = errors.New("the token is for another audience")
	ErrExpired     = errors.New("the token has expired")
	ErrNotYetValid = errors.New("the token is not valid yet")
	// ErrNoKeys is not about the token: another attempt may go better.
	ErrNoKeys = errors.New("the server does not have the keys of the issuer at present")
)

const (
	// largestToken is what a header can hold beside others; tokens of Kubernetes have 1 KiB.
	largestToken = 12 << 10
	// longestSubject is more than names of service accounts have, and than OpenID Connect allows
	// (255).
	longestSubject = 512
	// mostVerified is how many tokens are remembered as verified.
	mostVerified = 4096
)

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg        Config
	log        *slog.Logger
	algorithms []jose.SignatureAlgorithm

	waiting atomic.Int64 // calls for a fetch

	mu                sync.Mutex
	fromFile, fromURL source
	version           int    // of the keys, counted up when they have changed
	content           []byte // of the file, when it was read
	// closed at the end of the fetch that is under way, nil if there is none
	fetching <-chan struct{}
	fetched  time.Time // when the last one began
	verified map[[sha256.Size]byte]jwt.Claims
}

// source is where keys come from.
type source struct {
	name    string
	keys    keySet // nil until they could be read
	problem reload.Problem
}

// NewVerifier reads the file with the keys once, so that a mistake ends the start of the process.
// It tries to fetch those at the URL, and goes on without them: an issuer that is down must not
// keep the server from starting.
func NewVerifier(cfg Config, log *slog.Logger) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	v := &Verifier{
		cfg: cfg, log: log, verified: map[[sha256.Size]byte]jwt.Claims{},
		fromFile: source{name: cfg.JWKSFile}, fromURL: source{name: cfg.JWKSURL},
	}
	for _, name := range cfg.Algorithms {
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(name))
	}
	if cfg.JWKSFile != "" {
		var err error
		if v.fromFile.keys, v.content, err = readFile(cfg.JWKSFile, nil); err != nil {
			return nil, err
		}
	}
	v.mu.Lock()
	first := v.refresh()
	v.mu.Unlock()
	if first != nil {
		<-first
	}
	return v, nil
}

// Reload reads the keys again if their file has changed, or if those at the URL are old. The former
// ones stay in use while the new ones have a mistake or cannot be read.
func (v *Verifier) Reload() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cfg.JWKSFile != "" {
		keys, content, err := readFile(v.cfg.JWKSFile, v.content)
		v.content = content
		v.update(&v.fromFile, keys, err)
	}
	if v.fromURL.problem != "" || time.Since(v.fetched) >= v.cfg.JWKSInterval {
		v.refresh()
	}
}

// update puts the keys that were read of a source in use, unless there is an error. They are nil,
// with no error, if they are as before. The caller holds the lock.
func (v *Verifier) update(from *source, keys keySet, err error) {
	from.problem.Note(v.log, "keys for tokens not read, the former ones stay in use", err)
	if keys == nil || reflect.DeepEqual(keys, from.keys) {
		return
	}
	from.keys = keys
	v.version++
	clear(v.verified)
	v.log.Info("keys for tokens read", "from", from.name, "keys", len(keys))
}

// Verify returns the identity that a token proves, "jwt:<issuer>#<subject>", or why it is refused:
// one of the errors above. For a token whose key is not known it fetches the keys, but not often.
func (v *Verifier) Verify(ctx context.Context, token string) (identity string, err error) {
	identity, err = v.Check(token)
	if !errors.Is(err, errUnknownKey) {
		return identity, err
	}
	if err := v.awaitKeys(ctx); err != nil {
		return "", err
	}
	// Even without a wait: another call's fetch may have ended meanwhile.
	identity, err = v.Check(token)
	if errors.Is(err, errUnknownKey) && v.lacksKeys() {
		return "", ErrNoKeys
	}
	return identity, err
}

// lacksKeys tells whether the keys at the URL have never been read.
func (v *Verifier) lacksKeys() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cfg.JWKSURL != "" && v.fromURL.keys == nil
}

// Check is Verify by the keys that there are.
func (v *Verifier) Check(token string) (identity string, err error) {
	claims, err := v.claims(token)
	if err != nil {
		return "", err
	}
	return v.check(claims, time.Now())
}

var (
	errSignature = fmt.Errorf("%w: its signature is wrong", ErrNotTrusted)
	// errUnknownKey is the refusal for which other keys may help.
	errUnknownKey = fmt.Errorf("%w: its key is none of the issuer's", ErrNotTrusted)
)

// claims are those of a token whose signature is right by the keys of today.
func (v *Verifier) claims(token string) (claims jwt.Claims, err error) {
	if len(token) > largestToken {
		return claims, fmt.Errorf("%w: it has more than %d bytes", ErrMalformed, largestToken)
	}
	sum := sha256.Sum256([]byte(token))
	v.mu.Lock()
	claims, known := v.verified[sum]
	sources, version := []keySet{v.fromFile.keys, v.fromURL.keys}, v.version
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
	refused := errUnknownKey
	for _, keys := range sources {
		for _, key := range keys.find(header.KeyID, header.Algorithm) {
			refused = errSignature
			claims = jwt.Claims{}
			if parsed.Claims(key.Key, &claims) == nil {
				v.remember(sum, claims, version)
				return claims, nil
			}
		}
	}
	return jwt.Claims{}, refused
}

// remember spares the next call with the same token the signature, unless the keys have changed
// meanwhile.
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
		return "", fmt.Errorf(
			"%w: its claim sub is no name of 1 to %d bytes",
			ErrMalformed,
			longestSubject,
		)
	}
	return Prefix + claims.Issuer + "#" + claims.Subject, nil
}

// Prefix begins the identities of tokens.
const Prefix = "jwt:"

func isText(s string) bool {
	return utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
