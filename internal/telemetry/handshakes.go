package telemetry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// The reasons of failed handshakes.
const (
	handshakePlaintext = "plaintext" // a client without TLS, at a server with it
	handshakeTLS       = "tls"       // a client with TLS, at a server without it
	// A client that speaks, or with TLS asks for, no HTTP/2; on the web port no HTTP at all.
	handshakeNotHTTP2      = "not_http2"
	handshakeVersion       = "tls_version"    // a client with TLS 1.2 or older
	handshakeRefused       = "refused"        // by the client, which does not accept our certificate
	handshakeNoCertificate = "no_certificate" // from the client, at a server with mutual TLS
	// Of the client, from an authority that is not trusted, or out of date.
	handshakeCertificate = "certificate"
	// Connections that are open, over all or from the client's address.
	handshakeTooMany = "too_many"
	handshakeTimeout = "timeout"
	handshakeClosed  = "closed" // by the client, as probes of a port do
	handshakeOther   = "other"
)

// handshakeReasons are all values of the label reason.
var handshakeReasons = []string{
	handshakePlaintext,
	handshakeTLS,
	handshakeNotHTTP2,
	handshakeVersion,
	handshakeRefused,
	handshakeNoCertificate,
	handshakeCertificate,
	handshakeTooMany,
	handshakeTimeout,
	handshakeClosed,
	handshakeOther,
}

// handshakes counts those of a server that failed, by reason, and logs one of each reason a minute.
type handshakes struct {
	*prometheus.CounterVec
	// lines limit the log by reason: a port scan must not fill it, and must not hide other reasons.
	lines map[string]*lineLimit
}

// newHandshakes makes the counter, with each reason at 0.
func newHandshakes() *handshakes {
	h := &handshakes{
		CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_handshakes_failed_total",
			Help: "Connections that ended before their first call could come, by reason.",
		}, []string{"reason"}),
		lines: map[string]*lineLimit{},
	}
	for _, reason := range handshakeReasons {
		h.WithLabelValues(reason)
		h.lines[reason] = newLineLimit(1, rareInterval)
	}
	return h
}

// fail counts a handshake that failed, and logs it unless there were too many of its reason.
func (h *handshakes) fail(log *slog.Logger, peer net.Addr, reason string, err error) {
	level := slog.LevelWarn
	if reason == handshakeClosed {
		level = slog.LevelDebug
	}
	within := withinBudget(log)
	if suppressed, ok := within.pass(h.lines[reason], level); ok {
		within.Log(
			context.Background(),
			level,
			"handshake failed",
			"reason",
			reason,
			"peer",
			peer.String(),
			"error",
			err,
			"suppressed",
			suppressed,
		)
	}
	h.WithLabelValues(reason).Inc()
}

// errTooMany is what the log says of a connection that was refused.
var errTooMany = errors.New("too many connections")

// RefusedConnection counts a connection that a server closed at once because there were too many.
func (t *Telemetry) RefusedConnection(remote net.Addr) {
	t.server.handshakes.fail(t.Log, remote, handshakeTooMany, errTooMany)
}

// FailedHandshake counts a handshake that has failed with err, of a connection that
// AcceptedConnection has counted.
func (t *Telemetry) FailedHandshake(remote net.Addr, err error) {
	t.server.handshakes.fail(t.Log, remote, handshakeReason(err), err)
}

// handshakeReason sorts what crypto/tls and the network say.
func handshakeReason(err error) string {
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	// crypto/tls returns it if the first bytes are no TLS, as those of HTTP/2 in plaintext.
	case errors.As(err, &record):
		return handshakePlaintext
	case errors.As(err, &certificate):
		return handshakeCertificate
	// crypto/tls and grpc-go have no types for it and what follows.
	// The texts are checked by tests with real handshakes, which fail if an update changes them.
	case strings.HasSuffix(err.Error(), "didn't provide a certificate"):
		return handshakeNoCertificate
	case strings.Contains(err.Error(), "unsupported application protocols"),
		strings.Contains(err.Error(), "missing selected ALPN"):
		return handshakeNotHTTP2
	case strings.Contains(err.Error(), "offered only unsupported versions"):
		return handshakeVersion
	case errors.Is(err, os.ErrDeadlineExceeded):
		return handshakeTimeout
	case errors.As(err, &network) && network.Op == "remote error": // an alert of TLS
		return handshakeRefused
	case errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed):
		return handshakeClosed
	default:
		return handshakeOther
	}
}

const (
	preface   = "PRI * HTTP/2.0" // begins each HTTP/2 connection
	tlsRecord = 0x16             // begins each TLS connection
)

// greeting looks at the first bytes of a connection without TLS, and leaves them there. What is no
// HTTP/2 ends the connection later, in grpc-go, which tells only its own log.
func greeting(conn net.Conn) (reason string, err error) {
	descriptor, ok := conn.(syscall.Conn)
	if !ok {
		return "", nil // a connection within a test
	}
	raw, err := descriptor.SyscallConn()
	if err != nil {
		return handshakeReason(err), err
	}
	first := make([]byte, len(preface))
	var size int
	var peeked error
	// The runtime calls the function again when there is something to read, as long as it returns
	// false.
	err = raw.Read(func(fd uintptr) bool {
		size, peeked = peek(fd, first)
		return !errors.Is(peeked, syscall.EAGAIN) && !errors.Is(peeked, syscall.EINTR)
	})
	switch err = cmp.Or(err, peeked); {
	// Nothing to read on a socket that is ready means that the client has closed it.
	case err == nil && size == 0:
		return handshakeClosed, io.EOF
	case err != nil:
		return handshakeReason(err), err
	case first[0] == tlsRecord:
		return handshakeTLS, errors.New("the client speaks TLS")
	// Fewer bytes than the preface may have come, so that only those are compared.
	case !bytes.HasPrefix([]byte(preface), first[:size]):
		return handshakeNotHTTP2, errors.New("the client speaks no HTTP/2")
	default:
		return "", nil
	}
}
