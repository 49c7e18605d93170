package channel

import (
	"errors"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/rpc"
)

// What a caller may have to tell apart besides the server's status codes and what package rpc
// names.
var (
	// ErrGap says that messages of a channel were missed.
	ErrGap = errors.New("messages were missed")
	// ErrHistoryChanged says that the channel has another history than before: what was received may
	// be gone, and what is there may not have been received.
	ErrHistoryChanged = errors.New("the history of the channel has changed")
	// ErrLeft says that the conversation is over.
	ErrLeft = errors.New("conversation left")
)

// First is the sequence to read from when a conversation could not go on where it was:
// JoinOptions.From of one that gets all that the channel has, perhaps some of it again. It is 0 if
// err says nothing of the kind.
//
// It is found in the error's metadata first_sequence, which the contract promises. A client that
// has noticed the change by itself has none, and reads from 1.
func First(err error) uint64 {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			first, err := strconv.ParseUint(info.GetMetadata()["first_sequence"], 10, 64)
			if err == nil {
				return first
			}
		}
	}
	if errors.Is(err, ErrHistoryChanged) {
		return 1
	}
	return 0
}

// isDamage tells errors which say that messages are missing. The steady traffic counts them as
// wrong answers, and not as outages.
func isDamage(err error) bool {
	if errors.Is(err, ErrGap) || errors.Is(err, ErrHistoryChanged) {
		return true
	}
	switch rpc.Reason(err) {
	case "SEQUENCE_GONE", "HISTORY_CHANGED", "DAMAGED":
		return true
	default:
		return false
	}
}
