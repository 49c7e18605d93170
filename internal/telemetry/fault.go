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

// Ended is the status of a call that the server has ended on purpose, with UNAVAILABLE, so that its
// client continues it by another call. The label grpc_fault says why, and the call counts as a
// failure no more than one by the fault of its client.
type Ended struct {
	Status *status.Status
	Why    EndReason
}

// EndReason is why a server ends calls on purpose.
type EndReason string

const (
	// EndDrain is the drain of the process.
	EndDrain EndReason = "drain"
	// EndCredentials is that the certificate or the token of the caller holds no more.
	EndCredentials EndReason = "credentials"
)

// Error implements error.
func (e *Ended) Error() string { return e.Status.Err().Error() }

// GRPCStatus is what the client got.
func (e *Ended) GRPCStatus() *status.Status { return e.Status }

// clientFault is the value of the label grpc_fault for a ClientFault. The label is empty if the
// code says enough.
const clientFault = "client"

// excused are the ways to end that have a fault and are counted from zero: clients at fault get the
// codes for what cannot be read, is too large, comes in a form that the server does not take, or
// does not come in time.
var excused = []struct {
	code  codes.Code
	fault string
}{
	{codes.Internal, clientFault},
	{codes.ResourceExhausted, clientFault},
	{codes.Unimplemented, clientFault},
	{codes.DeadlineExceeded, clientFault},
	{codes.Unavailable, string(EndDrain)},
	{codes.Unavailable, string(EndCredentials)},
}

// faultIn is the value of the label for the end of a call.
func faultIn(err error) string {
	if _, ok := errors.AsType[*ClientFault](err); ok {
		return clientFault
	}
	if ended, ok := errors.AsType[*Ended](err); ok {
		return string(ended.Why)
	}
	return ""
}
