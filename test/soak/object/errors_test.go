package soak

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/object"
	"example.com/quartet/internal/rpc"
)

// tolerable tells whether an error is one that any call may end with during faults, and that says
// to its caller what to do. Everything that would mean damage, or that has no status chosen by the
// server, is not.
func tolerable(err error) bool {
	if errors.Is(err, object.ErrChecksum) || errors.Is(err, rpc.ErrProtocol) {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.ResourceExhausted:
		return rpc.Reason(err) == "STORE_FULL"
	case codes.Aborted:
		return rpc.Reason(err) == "WRITER_REPLACED"
	case codes.OK, codes.Unknown: // It is no status, or not one that the server chose.
		_, isStatus := errors.AsType[interface {
			error
			GRPCStatus() *status.Status
		}](err)
		return !isStatus && isOurs(err)
	case codes.OutOfRange:
		return errors.Is(err, rpc.ErrGaveUp) && rpc.Reason(err) == "OFFSET_MISMATCH"
	default:
		return false
	}
}

// isOurs knows what client/object says of its own accord.
func isOurs(err error) bool {
	return errors.Is(err, rpc.ErrGaveUp) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "another writer has taken over upload")
}

// is tells whether the server answered with one of some reasons.
func is(err error, reasons ...string) bool { return slices.Contains(reasons, rpc.Reason(err)) }
