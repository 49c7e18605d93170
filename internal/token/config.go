// Package token verifies bearer tokens: JSON Web Tokens (RFC 7519) that an issuer has signed for
// an audience, against the issuer's keys. They come from a file or from the issuer's URL, as a JSON
// Web Key Set (RFC 7517).
package token

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"
)

// Config says which tokens a server accepts: none without an Issuer.
type Config struct {
	Issuer        string        `env:"ISSUER" desc:"issuer of the bearer tokens that callers may send, exactly as in their claim iss; empty if tokens are not accepted"`
	Audience      string        `env:"AUDIENCE" desc:"audience that a token has to be for, one of its claim aud"`
	JWKSFile      string        `env:"JWKS_FILE" desc:"JSON Web Key Set with the issuer's public keys, read again when it changes"`
	JWKSURL       string        `env:"JWKS_URL" desc:"https:// address of the same, of the issuer or of Kubernetes (https://kubernetes.default.svc/openid/v1/jwks); fetched at the start, every JWKS_INTERVAL, and for tokens of unknown keys"`
	JWKSCAFile    string        `env:"JWKS_CA_FILE" desc:"authorities to trust for JWKS_URL; empty means the system's"`
	JWKSTokenFile string        `env:"JWKS_TOKEN_FILE" desc:"bearer token to fetch JWKS_URL with, as Kubernetes asks for; empty for none"`
	JWKSInterval  time.Duration `env:"JWKS_INTERVAL" envDefault:"5m" desc:"how often JWKS_URL is fetched, from 10s to 24h; a key that the issuer has withdrawn is trusted for as long, or until the issuer can be reached again"`
	JWKSProxy     bool          `env:"JWKS_PROXY" envDefault:"false" desc:"fetch JWKS_URL through the proxy that HTTPS_PROXY names, unless NO_PROXY excepts it"`
	Algorithms    []string      `env:"ALGORITHMS" envDefault:"RS256,ES256" desc:"algorithms by which tokens may be signed, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA"`
	// Leeway is how far the clocks of issuer and server may be apart.
	Leeway              time.Duration `env:"LEEWAY" envDefault:"10s" desc:"how much earlier than its claim nbf and later than its claim exp a token is accepted, at most 5m"`
	MaxLifetime         time.Duration `env:"MAX_LIFETIME" envDefault:"8784h" desc:"how long from now on a token may still be valid; what is valid for longer is refused, because a server cannot hear that a token was withdrawn; 0 for any time"`
	MaxRefused          int           `env:"MAX_REFUSED_PER_SECOND" envDefault:"20" desc:"tokens of one certificate, or else of one address, that are refused in a second; beyond, its tokens that were not verified before have to come again later; 0 for any number"`
	CertificateOptional bool          `env:"CERTIFICATE_OPTIONAL" envDefault:"false" desc:"with TLS_MODE=mtls, accept connections without a certificate; their calls need a token"`
	Plaintext           bool          `env:"PLAINTEXT" envDefault:"false" desc:"accept tokens over connections without TLS, where others can read them: for development, or if something in front ends TLS"`
}

// Enabled tells whether tokens are accepted.
func (c Config) Enabled() bool { return c.Issuer != "" }

// The algorithms are those with a public key. With others (HS256) each server could sign tokens.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

const maxLeeway = 5 * time.Minute

// Validate refuses a configuration by which no token, or any, would be accepted.
func (c Config) Validate() error {
	if !c.Enabled() {
		return errors.Join(
			needsIssuer("AUDIENCE", c.Audience != ""),
			needsIssuer("JWKS_FILE", c.JWKSFile != ""),
			needsIssuer("JWKS_URL", c.JWKSURL != ""),
			needsIssuer("CERTIFICATE_OPTIONAL", c.CertificateOptional),
		)
	}
	var problems []error
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(format, args...))
	}
	if strings.ContainsFunc(
		c.Issuer,
		func(r rune) bool { return r == '#' || unicode.IsSpace(r) || !unicode.IsPrint(r) },
	) {
		complain(
			"ISSUER=%q: has a # or a blank, expected a name such as https://issuer.example.com",
			c.Issuer,
		)
	}
	if c.Audience == "" {
		complain(
			"AUDIENCE: is needed with ISSUER, because a token for another service must not be accepted",
		)
	}
	if c.JWKSFile == "" && c.JWKSURL == "" {
		complain("JWKS_FILE: or JWKS_URL is needed with ISSUER, to verify its signatures")
	}
	if err := c.validateURL(); err != nil {
		problems = append(problems, err)
	}
	if strings.HasPrefix(c.JWKSFile, "{") {
		complain("JWKS_FILE: has the content of a file, expected its name")
	}
	if len(c.Algorithms) == 0 {
		complain("ALGORITHMS: names none")
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(asymmetric, jose.SignatureAlgorithm(name)) {
			complain("ALGORITHMS: %q is none of %s", name, names(asymmetric))
		}
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		complain("LEEWAY=%s: must be from 0s to %s", c.Leeway, maxLeeway)
	}
	if c.MaxLifetime < 0 {
		complain("MAX_LIFETIME=%s: must not be negative", c.MaxLifetime)
	}
	if c.MaxRefused < 0 {
		complain("MAX_REFUSED_PER_SECOND=%d: must not be negative", c.MaxRefused)
	}
	return errors.Join(problems...)
}

func (c Config) validateURL() error {
	if c.JWKSURL == "" {
		if c.JWKSCAFile != "" || c.JWKSTokenFile != "" || c.JWKSProxy {
			return errors.New(
				"JWKS_URL: is needed with JWKS_CA_FILE, JWKS_TOKEN_FILE and JWKS_PROXY, which are about it",
			)
		}
		return nil
	}
	at, err := url.Parse(c.JWKSURL)
	switch {
	case err != nil || at.Host == "":
		return errors.New("JWKS_URL: is no address, expected https://host/path")
	case at.User != nil:
		return errors.New("JWKS_URL: has a user, expected a token in the file JWKS_TOKEN_FILE")
	case at.Scheme != "https" && (at.Scheme != "http" || !c.Plaintext || c.JWKSTokenFile != ""):
		return errors.New(
			"JWKS_URL: has to begin with https://, because others could replace the keys on their way",
		)
	case c.JWKSInterval < minInterval || c.JWKSInterval > maxInterval:
		return fmt.Errorf("JWKS_INTERVAL=%s: must be from %s to %s", c.JWKSInterval, minInterval,
			maxInterval)
	default:
		return nil
	}
}

const minInterval, maxInterval = 10 * time.Second, 24 * time.Hour

func needsIssuer(name string, set bool) error {
	if !set {
		return nil
	}
	return fmt.Errorf("%s: needs ISSUER, without which no token is accepted", name)
}

func names(algorithms []jose.SignatureAlgorithm) string {
	all := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		all[i] = string(algorithm)
	}
	return strings.Join(all, ", ")
}
