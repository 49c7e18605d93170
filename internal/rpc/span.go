package rpc

import (
	"errors"

	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
)

// EndSpan ends a span above calls, and says what went wrong. The error's type is the text of one of
// the sentinels of known or of this package, else the server's reason, else its status code.
func EndSpan(span trace.Span, err error, known ...error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(otelcodes.Error, err.Error())
		span.SetAttributes(semconv.ErrorTypeKey.String(ErrorType(err, known...)))
	}
	span.End()
}

// ErrorType names an error by what programs tell it apart by; there are few such names.
func ErrorType(err error, known ...error) string {
	for _, sentinel := range append(known, ErrProtocol, ErrStalled, ErrEnded) {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	if reason := Reason(err); reason != "" {
		return reason
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err) // UNKNOWN, if it has nothing to do with a context either
	}
	return code.Code(st.Code()).String()
}
