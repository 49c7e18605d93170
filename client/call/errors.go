package call

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What a caller may have to tell apart besides the server's status codes.
var (
	// ErrChecksum says that what arrived is not what the server has.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrChanged says that the object was replaced or deleted while it was downloaded; begin again.
	ErrChanged = errors.New("object changed during the download")
	// ErrGap says that messages of a channel were missed.
	ErrGap = errors.New("messages were missed")
	// ErrProtocol says that the server broke the contract.
	ErrProtocol = errors.New("unexpected answer")
	// ErrGaveUp says that attempts in a row brought nothing new; later may go better.
	ErrGaveUp = errors.New("gave up")
	// ErrLeft says that the conversation is over.
	ErrLeft = errors.New("conversation left")

	errStalled = errors.New("no progress for too long")
	errEnded   = errors.New("stream ended early")
	errSource  = errors.New("read source")
	// errAnswered is no error: the server has answered, and that is why an attempt is over.
	errAnswered = errors.New("answered")
)

// Reason is the machine-readable reason that the server gave for an error, or "".
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// retryDelay is how long the server asked to wait, 0 if it did not.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return sane(info.GetRetryDelay())
		}
	}
	return 0
}

// sane is a delay that a server asked for, within what a caller would put up with.
func sane(delay *durationpb.Duration) time.Duration {
	return min(max(delay.AsDuration(), 0), 30*time.Second)
}

// resumable tells whether another attempt may go better. The context of the whole transfer is known to be alive, so
// that a cancellation or a deadline was one of the attempt's.
func resumable(err error) bool {
	if errors.Is(err, errStalled) || errors.Is(err, errEnded) || errors.Is(err, ErrChecksum) {
		return true
	}
	if _, ours := status.FromError(err); !ours {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.ResourceExhausted:
		return busy(err)
	case codes.OutOfRange:
		return Reason(err) == "OFFSET_MISMATCH"
	case codes.Aborted:
		return Reason(err) == "WRITER_REPLACED"
	default:
		return false
	}
}

// busy tells whether a server has no room at the moment and said when to come back.
func busy(err error) bool { return status.Code(err) == codes.ResourceExhausted && retryDelay(err) > 0 }

// cause is the reason why a stream ended: our own, if we cut it.
func cause(ctx context.Context, err error) error {
	if context.Cause(ctx) == errStalled { //nolint:errorlint // The very value is what is looked for.
		return errStalled
	}
	return err
}
