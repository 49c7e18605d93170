package telemetry

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ClientFault is the status of a call that ended because of what its client sent, or did not send,
// where the code alone would say that the server failed: grpc-go answers a frame that it cannot
// read with INTERNAL. The code stays as it was sent. The label grpc_fault and the log line say that
// the client was at fault, so that the call does not count as a failure of the server: its line is
// no warning, its span no error, and no objective counts it.
type ClientFault struct{ Status *status.Status }

// Error implements error.
func (e *ClientFault) Error() string { return e.Status.Err().Error() }

// GRPCStatus is what the client got.
func (e *ClientFault) GRPCStatus() *status.Status { return e.Status }

// clientFault is the value of the label grpc_fault, which is empty if the code says enough.
const clientFault = "client"

// faultCodes are those that clients at fault get: for what cannot be read, is too large, or does
// not come in time.
var faultCodes = []codes.Code{codes.Internal, codes.ResourceExhausted, codes.DeadlineExceeded}

// faultIn is the value of the label for the end of a call.
func faultIn(err error) string {
	if _, ok := errors.AsType[*ClientFault](err); ok {
		return clientFault
	}
	return ""
}
