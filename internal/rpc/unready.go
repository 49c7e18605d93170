package rpc

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// unreadiness is why conn is not ready: what the look-up of the name, the dial, the handshake or
// the health check came to. The balancer knows it, and tells a call that does not wait.
func unreadiness(conn *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{},
		grpc.WaitForReady(false))
	if status.Code(err) != codes.Unavailable {
		return noAnswer
	}
	reason := status.Convert(err).Message()
	if inner := quoted.FindStringSubmatch(reason); inner != nil {
		if text, err := strconv.Unquote(inner[1]); err == nil {
			reason = text
		}
	}
	reason = strings.TrimPrefix(reason, "transport: ")
	if refusal := refusedCertificate(reason); refusal != "" {
		return refusal
	}
	switch {
	case reason == "no children to pick from": // grpc-go's words for a name with no address
		return "the name has no address: no such host"
	case strings.Contains(reason, unhealthy+"SERVICE_UNKNOWN"):
		return LacksService
	case strings.Contains(reason, unhealthy):
		return "it is there, but is not serving"
	case !ended.MatchString(reason):
		return reason
	case proxied.MatchString(reason):
		return reason + "; the proxy did so"
	case strings.HasPrefix(reason, "authentication handshake failed"):
		return reason + "; servers without TLS do so"
	default:
		return reason + endedByTLS
	}
}

// refusals are what the alerts of TLS say of a client's certificate, in the words of crypto/tls.
var refusals = map[string]string{
	"certificate required":          "it asks for a certificate, and this client has shown none",
	"unknown certificate authority": "it does not trust the authority of this client's certificate",
	"expired certificate":           "this client's certificate has expired",
	"bad certificate":               "it refuses this client's certificate, which may be one for servers only",
}

const alertPrefix = "remote error: tls: "

// refusedCertificate says of a handshake that the server has refused what is wrong with the
// certificate, or "".
func refusedCertificate(reason string) string {
	_, alert, _ := strings.Cut(reason, alertPrefix)
	if text, known := refusals[alert]; known {
		return text + " (" + alertPrefix + alert + ")"
	}
	return ""
}

// LacksService is the reason of WaitReady where a server answers, and does not know the one service
// of a connection.
const LacksService = "it is there, but does not have the service"

// unhealthy are grpc-go's words for a server that answers grpc.health.v1 with anything but SERVING.
const unhealthy = "connection active but health check failed. status="

// endedByTLS explains the end of a connection without TLS, or of one whose handshake was over.
const endedByTLS = "; servers that want TLS, or another certificate, do so"

// noAnswer is the reason where nothing has failed so far.
const noAnswer = "no answer yet"

// answerTime is how long a connection that has no reason yet is asked for one.
const answerTime = 50 * time.Millisecond

var (
	// quoted is what grpc-go wraps around the error of a connection.
	quoted = regexp.MustCompile(`desc = (".*")`)
	// ended is what a client sees of a server that closes the connection and says nothing.
	ended = regexp.MustCompile(`(EOF|reset by peer|broken pipe)$`)
	// proxied is what grpc-go says of a proxy that was asked for a connection.
	proxied = regexp.MustCompile(`failed to write the HTTP request|reading server HTTP response`)
	numbers = regexp.MustCompile(`[0-9]+`)
)

// waitReasons are the reasons that one wait has had, each kind once. Where two alternate, as a
// server's refusal of the handshake and the end of the connection that comes with it, each is told
// once.
type waitReasons struct {
	kinds []string
	alert string // the last reason with an alert of TLS
}

// maxWaitReasons bounds what is told of one wait.
const maxWaitReasons = 16

// add tells whether a reason is of a new kind. One that differs only in its numbers is not: it is
// that of another replica, or of another attempt.
func (o *waitReasons) add(reason string) (isNew bool) {
	if strings.Contains(reason, alertPrefix) {
		o.alert = reason
	}
	kind := numbers.ReplaceAllString(reason, "")
	if slices.Contains(o.kinds, kind) || len(o.kinds) == maxWaitReasons {
		return false
	}
	o.kinds = append(o.kinds, kind)
	return true
}

// mostSpecific is the last reason, or the alert of TLS that came before a mere end of the
// connection.
func (o *waitReasons) mostSpecific(last string) string {
	if vague := last == noAnswer || strings.Contains(last, endedByTLS); vague && o.alert != "" {
		return o.alert
	}
	return last
}
