package rpc

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"example.com/quartet/internal/reload"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/token"
)

// errNotPermitted ends the calls of callers that are known and may not make them.
var errNotPermitted = errors.New("not permitted")

const (
	// accessInterval is how often the files of authorities and permissions are looked at, and open
	// streams and connections with them.
	accessInterval = time.Second
	// statusGrace is how long the statuses of the streams of a connection have to reach its client,
	// before it is closed.
	statusGrace = 250 * time.Millisecond
	// maxVerified is how many certificates are remembered as verified.
	maxVerified = 4096
)

// access decides whether a call may be made: its token has to be valid, or without one its
// certificate, and from an issuer or an authority that is still trusted, and the permissions, if
// there are any, have to allow the call. It is asked when a call begins, and again for each open
// stream when time has passed or a file has changed, because a stream may last for days.
type access struct {
	log    *slog.Logger
	tls    *reloading // nil if callers have no certificates
	tokens verifier   // nil if callers have no tokens
	file   string     // of the permissions; empty if every verified caller may call everything
	kinds  nameKinds
	// permissions are nil without a file.
	permissions atomic.Pointer[permissions]
	// content is that of the file when it was read, problem the one with it. Only one goroutine reads.
	content []byte
	problem reload.Problem

	mu sync.Mutex
	// verified has the results of certificates by the authorities of version.
	verified map[*x509.Certificate]error
	version  int
	// connections are the open ones, with the certificates that their clients have shown.
	connections map[*net.TCPConn][]*x509.Certificate
}

// verifier is what verifies tokens, a token.Verifier.
type verifier interface {
	Verify(ctx context.Context, caller any, token string) (identity string, err error)
	Check(token string) (identity string, err error)
	Known(token string) (identity string, known bool, err error)
	Ready() bool
	Reload()
	Sources() []token.Source
}

// newAccess reads the permissions and the keys once, so that a mistake in them ends the start of
// the process. It is nil if callers have neither certificates nor tokens, and then every call is
// permitted.
func newAccess(
	cfg ServerConfig, creds credentials.TransportCredentials, kinds nameKinds, log *slog.Logger,
) (*access, error) {
	a := &access{
		log: log, file: cfg.PermissionsFile, kinds: kinds,
		verified: map[*x509.Certificate]error{}, connections: map[*net.TCPConn][]*x509.Certificate{},
	}
	if cfg.TLS.Mode == "mtls" {
		a.tls, _ = creds.(*reloading)
	}
	if cfg.Tokens.Enabled() {
		if err := cfg.encryptTokens(); err != nil {
			return nil, err
		}
		tokens, err := token.NewVerifier(cfg.Tokens, log)
		if err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		a.tokens = tokens
	}
	if a.tls == nil && a.tokens == nil {
		return nil, nil
	}
	if a.file == "" {
		return a, nil
	}
	if err := a.readPermissions(); err != nil {
		return nil, fmt.Errorf("permissions: %w", err)
	}
	return a, nil
}

func (a *access) readPermissions() error {
	content, err := os.ReadFile(a.file)
	if err != nil {
		return err
	}
	before := a.permissions.Load()
	if before != nil && bytes.Equal(content, a.content) {
		return nil
	}
	read, err := parsePermissions(content, a.kinds)
	if err != nil {
		return fmt.Errorf("%s: %w", a.file, err)
	}
	if before != nil {
		a.log.Info("permissions reloaded", "file", a.file, "rules", len(read.rules))
	}
	a.permissions.Store(read)
	a.content = content
	return nil
}

// admit is the error with which a call ends that may not be made. The context that it returns has
// the identity in the caller's token, see CallerOf. callers are the names of the caller.
func (a *access) admit(
	ctx context.Context, fullMethod string,
) (admitted context.Context, callers []string, err error) {
	if a == nil {
		return ctx, nil, nil
	}
	identity, callers, err := a.check(ctx, fullMethod,
		func(bearer string) (string, error) { return a.tokens.Verify(ctx, CallerOf(ctx), bearer) })
	if err != nil {
		exchangeOf(ctx).challenge(challenge(err))
		return nil, nil, err
	}
	if identity != "" {
		ctx = context.WithValue(ctx, tokenIdentity{}, identity)
	}
	return ctx, callers, nil
}

// restrictsNames tells whether a call that begins now has to remember its caller. A unary call that
// began without goes by the permissions of then.
func (a *access) restrictsNames() bool {
	if a == nil {
		return false
	}
	permissions := a.permissions.Load()
	return permissions != nil && permissions.restrictNames
}

// recheck is the error with which an open call ends that may not go on, or not with the names that
// it has used.
func (a *access) recheck(ctx context.Context, fullMethod string) error {
	_, _, err := a.check(ctx, fullMethod,
		func(bearer string) (string, error) { return a.tokens.Check(bearer) })
	return endedByToken(err)
}

// check returns the identity in the token of a call, if it has one, and the names of its caller.
// Checks and watches of health need no permission, and no token: they tell nothing but whether a
// service answers.
func (a *access) check(
	ctx context.Context, fullMethod string, verify func(bearer string) (string, error),
) (identity string, callers []string, err error) {
	defer recoverTo(ctx, a.log, &err)
	callers, err = a.certified(ctx)
	if err != nil || strings.HasPrefix(fullMethod, "/grpc.health.v1.Health/") {
		return "", nil, err
	}
	if a.tokens != nil {
		switch bearer, err := bearerToken(ctx); {
		case errors.Is(err, token.ErrMissing) && callers != nil:
		case err != nil:
			return "", nil, err
		default:
			identity, err = verify(bearer)
			switch {
			case errors.Is(err, token.ErrNoKeys):
				return "", nil,
					RetryAfter(codes.Unavailable, err.Error(), "TOKEN_KEYS_UNAVAILABLE", time.Second)
			case errors.Is(err, token.ErrBusy):
				return "", nil, Overloaded(err.Error())
			case err != nil:
				return "", nil, err
			}
			callers = []string{identity}
		}
	}
	return identity, callers, a.mayCall(callers, fullMethod, usedIn(ctx))
}

// mayCall is the error with which a call ends that no rule allows. The names that the call uses are
// logged; the client is told none of them.
func (a *access) mayCall(callers []string, fullMethod string, used []usedName) error {
	permissions := a.permissions.Load()
	if permissions == nil || permissions.allow(callers, fullMethod, used) {
		return nil
	}
	caller, method := telemetry.Text(strings.Join(callers, ", ")), telemetry.MethodName(fullMethod)
	attributes := []any{"caller", caller, "method", method}
	for i, one := range used {
		attributes = append(attributes, one.kind, one.name)
		method += []string{" with ", " and "}[min(i, 1)] + one.String()
	}
	a.log.Warn("call not permitted", attributes...)
	return fmt.Errorf("%w: no rule allows %s to a caller with the names [%s]", errNotPermitted,
		method, caller)
}

// certified returns the names in the certificate of a caller, which has to be valid. Without one
// there are none, and the caller needs a token.
func (a *access) certified(ctx context.Context) ([]string, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return nil, fmt.Errorf("%w: the call has no peer", errNotPermitted)
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		if a.tokens == nil {
			return nil, fmt.Errorf("%w: the caller has shown no certificate", errNotPermitted)
		}
		return nil, nil
	}
	chain := info.State.PeerCertificates
	return append([]string{}, namesIn(chain[0])...), a.valid(chain)
}

// valid tells whether a certificate would still be accepted if its connection began now. The error
// sends the client to a new connection, for which it may have a new certificate by now.
func (a *access) valid(chain []*x509.Certificate) error {
	if time.Now().After(chain[0].NotAfter) {
		return endedFor(telemetry.EndCredentials, "the certificate of the client has expired",
			"CERTIFICATE_EXPIRED")
	}
	if a.trusted(chain) != nil {
		return endedFor(telemetry.EndCredentials,
			"the authority of the client's certificate is no longer trusted", "CERTIFICATE_NOT_TRUSTED")
	}
	return nil
}

// trusted verifies a certificate, unless it is known what comes of that by the authorities of now.
func (a *access) trusted(chain []*x509.Certificate) error {
	leaf := chain[0]
	pool, version := a.tls.authorities()
	a.mu.Lock()
	if version > a.version {
		clear(a.verified)
		a.version = version
	}
	err, known := a.verified[leaf]
	known = known && version == a.version
	a.mu.Unlock()
	if known {
		return err
	}
	// No lock is held: a connection that shows many certificates must not hold up the other calls.
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	a.mu.Lock()
	defer a.mu.Unlock()
	if version != a.version {
		return err
	}
	if len(a.verified) >= maxVerified {
		for one := range a.verified {
			delete(a.verified, one)
			break
		}
	}
	a.verified[leaf] = err
	return err
}

// watch reads the files again as they change, ends the open streams that may not go on, and closes
// the connections whose certificate is not valid any more, until ctx is done.
func (a *access) watch(ctx context.Context, calls *incoming, health *Health) {
	if a == nil {
		return
	}
	ticker := time.NewTicker(accessInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if a.tls != nil {
			a.tls.newest()
		}
		if a.tokens != nil {
			a.tokens.Reload()
		}
		if health.isHeld() && !a.lacksKeys() {
			a.log.Info("there are keys for tokens, so that callers can be told apart")
			health.hold(false)
		}
		a.reload()
		calls.endRefused(a.recheck)
		a.closeInvalid()
	}
}

// reload reads the permissions if the file has changed. The old ones stay in use while the new ones
// have a mistake.
func (a *access) reload() {
	if a.file == "" {
		return
	}
	a.problem.Note(a.log, "permissions not reloaded, the old ones stay in use", a.readPermissions())
}

func (a *access) closeInvalid() {
	a.mu.Lock()
	connections := maps.Clone(a.connections)
	a.mu.Unlock()
	for conn, chain := range connections {
		closed := isClosed(conn)
		if !closed && a.valid(chain) == nil {
			continue
		}
		a.mu.Lock()
		delete(a.connections, conn)
		a.mu.Unlock()
		if !closed {
			time.AfterFunc(statusGrace, func() { _ = conn.Close() }) // It may be closed already.
		}
	}
}

// lacksKeys tells whether no call can be permitted, because callers have nothing but tokens, and no
// key that one could be verified by was ever read.
func (a *access) lacksKeys() bool {
	return a != nil && a.tls == nil && a.tokens != nil && !a.tokens.Ready()
}

// watchedCredentials tell access which connections there are. Those that have been closed are
// forgotten with the next look.
type watchedCredentials struct {
	credentials.TransportCredentials
	access *access
}

func (c watchedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, auth, err := c.TransportCredentials.ServerHandshake(raw)
	tcp, isTCP := raw.(*net.TCPConn)
	if info, isTLS := auth.(credentials.TLSInfo); err == nil && isTCP && isTLS &&
		len(info.State.PeerCertificates) > 0 {
		c.access.mu.Lock()
		defer c.access.mu.Unlock()
		c.access.connections[tcp] = info.State.PeerCertificates
	}
	return conn, auth, err
}
