package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/token"
)

// tokenRules are the rules for the tokens of callers.
var tokenRules = []ErrorRule{
	{Is: token.ErrMissing, Code: codes.Unauthenticated, Reason: "TOKEN_MISSING"},
	{Is: token.ErrMalformed, Code: codes.Unauthenticated, Reason: "TOKEN_MALFORMED"},
	{Is: token.ErrNotTrusted, Code: codes.Unauthenticated, Reason: "TOKEN_NOT_TRUSTED"},
	{Is: token.ErrAudience, Code: codes.Unauthenticated, Reason: "TOKEN_WRONG_AUDIENCE"},
	{Is: token.ErrExpired, Code: codes.Unauthenticated, Reason: "TOKEN_EXPIRED"},
	{Is: token.ErrNotYetValid, Code: codes.Unauthenticated, Reason: "TOKEN_NOT_YET_VALID"},
}

const (
	authorizationHeader = "authorization"
	bearerScheme        = "bearer"
)

// bearerToken is the token that a call has brought, or token.ErrMissing.
func bearerToken(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, authorizationHeader)
	if len(values) == 0 {
		return "", token.ErrMissing
	}
	scheme, value, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, bearerScheme) {
		return "", fmt.Errorf("%w: expected one header, authorization: Bearer <token>",
			token.ErrMalformed)
	}
	return strings.TrimSpace(value), nil
}

// keyAge tells in metrics how old the keys for tokens are.
type keyAge struct {
	read, interval *prometheus.Desc
	tokens         verifier
}

// watchKeys has the age of the keys for tokens told in metrics, if there are tokens.
func watchKeys(t *telemetry.Telemetry, a *access) error {
	if a == nil || a.tokens == nil {
		return nil
	}
	source := []string{"source"}
	return t.Metrics.Register(&keyAge{
		read: prometheus.NewDesc("token_keys_last_read_timestamp_seconds",
			"When the keys for tokens could be read from their file or URL the last time; 0 if never.",
			source, nil),
		interval: prometheus.NewDesc("token_keys_read_interval_seconds",
			"How often the keys for tokens are read.", source, nil),
		tokens: a.tokens,
	})
}

// Describe implements prometheus.Collector.
func (k *keyAge) Describe(to chan<- *prometheus.Desc) {
	to <- k.read
	to <- k.interval
}

// Collect implements prometheus.Collector.
func (k *keyAge) Collect(to chan<- prometheus.Metric) {
	for _, source := range k.tokens.Sources() {
		read := 0.0
		if !source.Read.IsZero() {
			read = float64(source.Read.Unix())
		}
		to <- prometheus.MustNewConstMetric(k.read, prometheus.GaugeValue, read, source.Kind)
		to <- prometheus.MustNewConstMetric(k.interval, prometheus.GaugeValue,
			source.Interval.Seconds(), source.Kind)
	}
}

// challenge is the header WWW-Authenticate for an error (RFC 6750, section 3), or "".
func challenge(err error) string {
	for _, rule := range tokenRules {
		switch {
		case !errors.Is(err, rule.Is):
		case rule.Is == token.ErrMissing: //nolint:errorlint // The sentinel itself is compared.
			return "Bearer"
		default:
			return `Bearer error="invalid_token", error_description="` + rule.Is.Error() + `"`
		}
	}
	return ""
}

// endedByToken is what an open stream ends with whose token would be refused by now. It sends the
// client to a new call, for which it may have a new token.
func endedByToken(err error) error {
	for _, rule := range tokenRules {
		if errors.Is(err, rule.Is) {
			return endedFor(telemetry.EndCredentials, err.Error(), rule.Reason)
		}
	}
	return err
}

// tokenIdentity is the key for the identity that the token of a call has proved.
type tokenIdentity struct{}

// bearerFile sends the token in a file with each call that has none of its own.
type bearerFile struct {
	file      *token.File
	plaintext bool
}

// newBearerFile is nil if no token is to be sent.
func newBearerFile(cfg ClientConfig, log *slog.Logger) (credentials.PerRPCCredentials, error) {
	if cfg.TokenFile == "" {
		return nil, nil
	}
	if err := cfg.validateToken(); err != nil {
		return nil, err
	}
	file, err := token.OpenFile(cfg.TokenFile, log)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return bearerFile{file, cfg.TokenPlaintext}, nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearerFile) GetRequestMetadata(
	ctx context.Context, _ ...string,
) (map[string]string, error) {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(authorizationHeader)) > 0 {
		return nil, nil
	}
	return map[string]string{authorizationHeader: "Bearer " + b.file.Token()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearerFile) RequireTransportSecurity() bool { return !b.plaintext }
