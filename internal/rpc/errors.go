package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/internal/telemetry"
)

// ErrorRule gives a sentinel of the domain its status code. Reason is the
// constant in UPPER_SNAKE_CASE by which programs tell errors apart.
//
// The whole text of an error that matches goes to the client, unless Hide: then
// the text is the sentinel's own, because what is wrapped around it may name
// files or addresses. The log has the rest.
type ErrorRule struct {
	Is     error
	Code   codes.Code
	Reason string
	Hide   bool
}

// ErrorTable turns the errors of handlers into statuses, so that handlers
// return what the domain gave them. The first rule that matches counts.
//
// Metadata, if set, adds what programs need to go on, such as the offset to
// resume at.
type ErrorTable struct {
	Domain   string // of ErrorInfo, e.g. shop.example.com; NewServer sets it
	Rules    []ErrorRule
	Metadata func(error) map[string]string
}

// What a peer can do wrong in any stream, for the tables of services.
var (
	ErrMessageOrder = errors.New("message out of order")
	ErrIdle         = errors.New("no message for too long")
)

// StreamRules are the rules for these.
var StreamRules = []ErrorRule{
	{Is: ErrMessageOrder, Code: codes.InvalidArgument, Reason: "MESSAGE_ORDER"},
	{Is: ErrIdle, Code: codes.DeadlineExceeded, Reason: "IDLE"},
}

// commonRules are those that every service has.
var commonRules = []ErrorRule{
	{Is: errUndecodable, Code: codes.InvalidArgument, Reason: "UNDECODABLE"},
	{Is: ErrIdle, Code: codes.DeadlineExceeded, Reason: "IDLE"},
	{Is: errNotPermitted, Code: codes.PermissionDenied, Reason: "NOT_PERMITTED"},
}

// FirstMessage names the mistake of a peer that closes a stream before it has sent a message; err
// is what Recv returned.
func FirstMessage(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the stream ended before its first message", ErrMessageOrder)
	}
	return err
}

// The texts that clients see in place of ours.
const (
	internalText = "internal error"
	cancelText   = "the call was cancelled"
	deadlineText = "the deadline passed"
	timeoutText  = "a part of the service did not answer in time"
)

// Status translates err. A status stays as it is, without the text that was
// wrapped around it, unless it is UNKNOWN, which says that the handler did not
// choose one. What is in no rule becomes INTERNAL with a fixed text. Whatever
// the text is made of, it is one that a client can read, see telemetry.Text.
func (t ErrorTable) Status(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	st := t.find(err)
	if text := telemetry.Text(st.Message()); text != st.Message() {
		fit := st.Proto() // It is a copy.
		fit.Message = text
		return status.FromProto(fit)
	}
	return st
}

// find is the status of an error that is not nil.
func (t ErrorTable) find(err error) *status.Status {
	if retry, ok := errors.AsType[*retryError](err); ok {
		return retry.status(t.Domain)
	}
	if st := statusIn(err); st != nil {
		return st
	}
	for _, rule := range slices.Concat(t.Rules, commonRules, tokenRules) {
		if errors.Is(err, rule.Is) {
			return t.byRule(rule, err)
		}
	}
	return fallback(err)
}

func (t ErrorTable) byRule(rule ErrorRule, err error) *status.Status {
	info := &errdetails.ErrorInfo{Reason: rule.Reason, Domain: t.Domain}
	if t.Metadata != nil {
		info.Metadata = t.Metadata(err)
		for key, value := range info.Metadata {
			info.Metadata[key] = telemetry.Text(value)
		}
	}
	text := err.Error()
	if rule.Hide {
		text = rule.Is.Error()
	}
	return withDetails(status.New(rule.Code, text), info)
}

// statusIn finds a status in err's chain whose code was chosen. It takes
// the status itself, because status.FromError puts err's own text in it.
func statusIn(err error) *status.Status {
	carrier, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return nil
	}
	st := carrier.GRPCStatus()
	if code := st.Code(); code == codes.OK || code == codes.Unknown {
		return nil
	}
	return st
}

// fallback knows the errors of the standard library that say something about
// the call. A timeout which is not the call's own deadline may be gone at the
// next attempt, hence UNAVAILABLE.
func fallback(err error) *status.Status {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, cancelText)
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, deadlineText)
	case errors.As(err, &timeout) && timeout.Timeout():
		return status.New(codes.Unavailable, timeoutText)
	default:
		return status.New(codes.Internal, internalText)
	}
}

// RetryAfter is an error that asks the client to come back after d: as
// RetryInfo for programs, and, by the interceptor that applies the table, as
// the trailer that grpc-go's retries obey.
func RetryAfter(code codes.Code, msg, reason string, d time.Duration) error {
	return &retryError{code: code, msg: msg, reason: reason, after: d}
}

// stoppingDelay is how long a client should wait before it continues elsewhere: long enough for its
// connection to have been moved.
const stoppingDelay = 500 * time.Millisecond

// Stopping is what a stream that does not end by itself ends with when the drain begins: its client
// continues it elsewhere. msg is what the client is told. It counts as no failure of the server.
func Stopping(msg string) error {
	return endedFor(telemetry.EndDrain, msg, "STOPPING")
}

// endedFor is what a call ends with that the server ends on purpose, and whose client continues it
// by another call.
func endedFor(why telemetry.EndReason, msg, reason string) error {
	return &retryError{codes.Unavailable, msg, reason, stoppingDelay, why}
}

type retryError struct {
	code        codes.Code
	msg, reason string
	after       time.Duration
	why         telemetry.EndReason // empty if the call has failed
}

func (e *retryError) Error() string              { return e.msg }
func (e *retryError) GRPCStatus() *status.Status { return e.status("") }

func (e *retryError) status(domain string) *status.Status {
	return withDetails(status.New(e.code, e.msg),
		&errdetails.ErrorInfo{Reason: e.reason, Domain: domain},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(e.after)})
}

// withDetails attaches the details. It fails for the status OK only, to which
// nothing is attached then.
func withDetails(st *status.Status, details ...protoadapt.MessageV1) *status.Status {
	if detailed, err := st.WithDetails(details...); err == nil {
		return detailed
	}
	return st
}
