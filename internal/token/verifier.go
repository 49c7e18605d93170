package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/time/rate"

	"example.com/quartet/internal/reload"
	"example.com/quartet/internal/shares"
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
	// ErrBusy is not about the token either, but about its caller.
	ErrBusy = errors.New("too many tokens of one caller are refused, or wait to be verified")
)

const (
	// maxToken is what a header can hold beside others; tokens of Kubernetes have 1 KiB.
	maxToken = 12 << 10
	// maxSubject is more than names of service accounts have, and than OpenID Connect allows
	// (255).
	maxSubject = 512
	// maxVerified is how many tokens are remembered as verified.
	maxVerified = 4096
	// maxUnverified is how many tokens of one caller may wait to be verified.
	maxUnverified = 1000
	// refusedBurst is in how many seconds' worth of refused tokens a caller may send at once.
	refusedBurst = 5
)

// Verifier verifies tokens. It is safe for concurrent use.
//
// What costs something is bounded for each caller: the time for signatures, the fetches of keys and
// the calls that wait for one. Tokens that were verified before cost next to nothing, and are not
// held up by those that were not.
type Verifier struct {
	cfg        Config
	log        *slog.Logger
	algorithms []jose.SignatureAlgorithm

	turns   *shares.Shares // a caller's tokens are verified one after another
	refused *shares.Rates  // tokens
	fetches *shares.Rates  // for tokens of keys that are not known
	waiting *shares.Shares // calls for a fetch

	mu                sync.Mutex
	fromFile, fromURL source
	// closed at the end of the fetch that is under way, nil if there is none
	fetching <-chan struct{}
	fetched  time.Time // when the last one began
	verified map[[sha256.Size]byte]verified
}

// source is where keys come from.
type source struct {
	name    string
	keys    keySet    // nil until they could be read
	read    time.Time // when they could be read the last time, changed or not
	problem reload.Problem
	leftOut reload.Problem
}

// verified is a token whose signature is right.
type verified struct {
	claims jwt.Claims
	key    jose.JSONWebKey
}

// NewVerifier reads the file with the keys once, so that a mistake ends the start of the process.
// It tries to fetch those at the URL, and goes on without them: an issuer that is down must not
// keep the server from starting.
func NewVerifier(cfg Config, log *slog.Logger) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	v := &Verifier{
		cfg: cfg, log: log, verified: map[[sha256.Size]byte]verified{},
		fromFile: source{name: cfg.JWKSFile}, fromURL: source{name: cfg.JWKSURL},
		turns:   shares.New(0, 1, maxUnverified),
		refused: shares.NewRates(rate.Limit(cfg.MaxRefused), refusedBurst*cfg.MaxRefused),
		fetches: shares.NewRates(rate.Every(callerPause), 1),
		waiting: shares.New(maxWaiting, maxWaiting/2, 0),
	}
	for _, name := range cfg.Algorithms {
		v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(name))
	}
	if cfg.JWKSFile != "" {
		keys, leftOut, err := readFile(cfg.JWKSFile)
		if err != nil {
			return nil, err
		}
		v.update(&v.fromFile, keys, leftOut, nil)
	}
	v.mu.Lock()
	first := v.refresh()
	v.mu.Unlock()
	if first != nil {
		<-first
	}
	return v, nil
}

// Reload reads the keys again, those at the URL if they are old. The former ones stay in use while
// the new ones have a mistake or cannot be read.
func (v *Verifier) Reload() {
	if v.cfg.JWKSFile != "" {
		keys, leftOut, err := readFile(v.cfg.JWKSFile)
		v.mu.Lock()
		v.update(&v.fromFile, keys, leftOut, err)
		v.mu.Unlock()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	pause := v.cfg.JWKSInterval
	if v.fromURL.keys == nil {
		pause = fetchPause
	} else if v.fromURL.problem != "" {
		pause = retryPause
	}
	if time.Since(v.fetched) >= pause {
		v.refresh()
	}
}

// update puts the keys that were read of a source in use, unless there is an error. What was
// verified by a key that is gone has to be verified again. The caller holds the lock.
func (v *Verifier) update(from *source, keys keySet, leftOut, err error) {
	from.problem.Note(v.log, "keys for tokens not read, the former ones stay in use", err)
	if err != nil {
		return
	}
	from.read = time.Now()
	from.leftOut.Note(v.log, "some keys for tokens cannot be used, the others are", leftOut)
	if reflect.DeepEqual(keys, from.keys) {
		return
	}
	from.keys = keys
	maps.DeleteFunc(v.verified, func(_ [sha256.Size]byte, one verified) bool {
		return !v.trusts(one.key)
	})
	v.log.Info("keys for tokens read", "from", from.name, "keys", len(keys))
}

// trusts tells whether a key is one of the issuer's. The caller holds the lock.
func (v *Verifier) trusts(key jose.JSONWebKey) bool {
	return v.fromFile.keys.has(key) || v.fromURL.keys.has(key)
}

// Verify returns the identity that a token proves, "jwt:<issuer>#<subject>", or why it is refused:
// one of the errors above. For a token whose key is not known it fetches the keys, but not often.
// caller, which is comparable, is the sender of the token so far as it is known without it. If too
// many of its tokens were refused, only those are accepted that were verified before.
func (v *Verifier) Verify(
	ctx context.Context, caller any, token string,
) (identity string, err error) {
	if identity, known, err := v.Known(token); known {
		return identity, err
	}
	identity, err = v.inTurn(ctx, caller, token)
	if !errors.Is(err, errUnknownKey) {
		return identity, err
	}
	if err := v.awaitKeys(ctx, caller); err != nil {
		return "", err
	}
	// Even without a wait: another call's fetch may have ended meanwhile.
	identity, err = v.inTurn(ctx, caller, token)
	switch {
	case !errors.Is(err, errUnknownKey):
		return identity, err
	case v.lacksNewest():
		return "", ErrNoKeys
	default:
		v.refused.Allow(caller)
		return "", err
	}
}

// inTurn is Check when no other token of the caller is being checked, and if not too many of them
// were refused.
func (v *Verifier) inTurn(ctx context.Context, caller any, token string) (string, error) {
	giveBack, err := v.turns.Take(ctx, caller, 1)
	if errors.Is(err, shares.ErrTooManyWait) {
		return "", ErrBusy
	} else if err != nil {
		return "", err
	}
	defer giveBack()
	if v.refused.Spent(caller) {
		return "", ErrBusy
	}
	identity, err := v.Check(token)
	if err != nil && !errors.Is(err, errUnknownKey) {
		v.refused.Allow(caller)
	}
	return identity, err
}

// lacksNewest tells whether the keys at the URL could not be read the last time, so that a key that
// is not known may be the issuer's.
func (v *Verifier) lacksNewest() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cfg.JWKSURL != "" && (v.fromURL.keys == nil || v.fromURL.problem != "")
}

// Source is where keys for tokens come from.
type Source struct {
	Kind     string        // "file" or "url"
	Read     time.Time     // when they could be read the last time; zero if never
	Interval time.Duration // after which they are read again
}

// Sources are those of the configuration.
func (v *Verifier) Sources() []Source {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Source
	if v.cfg.JWKSFile != "" {
		all = append(all, Source{"file", v.fromFile.read, lookInterval})
	}
	if v.cfg.JWKSURL != "" {
		all = append(all, Source{"url", v.fromURL.read, v.cfg.JWKSInterval})
	}
	return all
}

// Ready tells whether there are keys, so that tokens can be accepted at all.
func (v *Verifier) Ready() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fromFile.keys != nil || v.fromURL.keys != nil
}

// Known is Verify for a token that was verified before. It costs a hash, and known is false for all
// other tokens.
func (v *Verifier) Known(token string) (identity string, known bool, err error) {
	if len(token) > maxToken {
		return "", false, nil
	}
	sum := sha256.Sum256([]byte(token))
	v.mu.Lock()
	one, known := v.verified[sum]
	v.mu.Unlock()
	if !known {
		return "", false, nil
	}
	identity, err = v.check(one.claims, time.Now())
	return identity, true, err
}

// Check is Verify by the keys that there are, and without limits.
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
	if len(token) > maxToken {
		return claims, fmt.Errorf("%w: it has more than %d bytes", ErrMalformed, maxToken)
	}
	if strings.ContainsAny(token, " \t\r\n") { // A decoder of base64 may skip them.
		return claims, fmt.Errorf("%w: it has blanks in it", ErrMalformed)
	}
	sum := sha256.Sum256([]byte(token))
	v.mu.Lock()
	one, known := v.verified[sum]
	sources := []keySet{v.fromFile.keys, v.fromURL.keys}
	v.mu.Unlock()
	if known {
		return one.claims, nil
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
				v.remember(sum, verified{claims, key})
				return claims, nil
			}
		}
	}
	return jwt.Claims{}, refused
}

// remember spares the next call with the same token the signature, unless its key is gone
// meanwhile.
func (v *Verifier) remember(sum [sha256.Size]byte, token verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.trusts(token.key) {
		return
	}
	if len(v.verified) >= maxVerified {
		for one := range v.verified {
			delete(v.verified, one)
			break
		}
	}
	v.verified[sum] = token
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
	case v.cfg.MaxLifetime > 0 && claims.Expiry.Time().After(now.Add(v.cfg.MaxLifetime)):
		return "", fmt.Errorf("%w: it is valid for more than %s", ErrNotTrusted, v.cfg.MaxLifetime)
	case claims.NotBefore != nil && now.Add(v.cfg.Leeway).Before(claims.NotBefore.Time()):
		return "", ErrNotYetValid
	case claims.Subject == "" || len(claims.Subject) > maxSubject || !isText(claims.Subject):
		return "", fmt.Errorf(
			"%w: its claim sub is no name of 1 to %d bytes",
			ErrMalformed,
			maxSubject,
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
