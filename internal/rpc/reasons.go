package rpc

import (
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// What a caller may have to tell apart besides the server's status codes.
var (
	// ErrProtocol says that the server broke the contract.
	ErrProtocol = errors.New("unexpected answer")
	// ErrGaveUp says that attempts in a row brought nothing new; later may go better.
	ErrGaveUp = errors.New("gave up")
	// ErrEnded says that a stream ended before all of it had come.
	ErrEnded = errors.New("stream ended early")
	// ErrStalled says that a stream which should be moving was not, for StallTimeout.
	ErrStalled = errors.New("no progress for too long")
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

// RetryDelay is how long the server asked to wait before the next attempt, 0 if it did not.
func RetryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return Delay(info.GetRetryDelay())
		}
	}
	return 0
}

// maxDelay is the most that a server may ask a client to wait.
const maxDelay = 30 * time.Second

// Delay is a delay that a server asked for, brought between 0 and 30 s.
func Delay(asked *durationpb.Duration) time.Duration {
	return min(max(asked.AsDuration(), 0), maxDelay)
}

// IsBusy tells whether a server has no room at the moment and said when to come back.
func IsBusy(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && RetryDelay(err) > 0
}
