package call

import (
	"errors"
	"fmt"

	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
)

// endSpan ends a span of ours, and says what went wrong.
func endSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(otelcodes.Error, err.Error())
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
	}
	span.End()
}

// errorType names an error by what programs tell it apart by; there are few such names.
func errorType(err error) string {
	for _, ours := range []error{ErrChecksum, ErrChanged, ErrGap, ErrProtocol, ErrLeft, errStalled, errEnded} {
		if errors.Is(err, ours) {
			return ours.Error()
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

func hex(crc32c uint32) string { return fmt.Sprintf("%08x", crc32c) }
