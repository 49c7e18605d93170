package channel

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel/broker"
)

var (
	errAmbiguousStart = errors.New("a join begins at one place: after_sequence, after or from_sequence")
	errNotReading     = errors.New("the participant does not read")
	// errOver ends what still wanted to send when a conversation is over, which has another end
	// already.
	errOver = errors.New("the conversation is over")
)

// notReadingError ends the conversation of a participant that does not read.
type notReadingError struct{ last uint64 }

func (e *notReadingError) Error() string {
	return fmt.Sprintf("%v; the last message that was sent has the sequence %d", errNotReading, e.last)
}

func (e *notReadingError) Unwrap() error { return errNotReading }

// errorTable is the one place where errors of the broker become status codes. Whatever is not here
// reaches a client as INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{
	Rules: append(rpc.StreamRules, []rpc.ErrorRule{
		{Is: broker.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: broker.ErrInvalidMessageID, Code: codes.InvalidArgument, Reason: "INVALID_MESSAGE_ID"},
		{Is: broker.ErrBodyTooLarge, Code: codes.InvalidArgument, Reason: "BODY_TOO_LARGE"},
		{Is: errAmbiguousStart, Code: codes.InvalidArgument, Reason: "AMBIGUOUS_START"},
		{Is: broker.ErrSequenceGone, Code: codes.OutOfRange, Reason: "SEQUENCE_GONE"},
		{Is: broker.ErrHistoryChanged, Code: codes.OutOfRange, Reason: "HISTORY_CHANGED"},
		{Is: broker.ErrDamaged, Code: codes.DataLoss, Reason: "DAMAGED"},
		{Is: broker.ErrStoreFull, Code: codes.ResourceExhausted, Reason: "STORE_FULL", Hide: true},
		{Is: broker.ErrTooManyChannels, Code: codes.ResourceExhausted, Reason: "TOO_MANY_CHANNELS"},
		{Is: broker.ErrTooManyKept, Code: codes.ResourceExhausted, Reason: "TOO_MANY_CHANNELS"},
		{Is: errNotReading, Code: codes.DeadlineExceeded, Reason: "NOT_READING"},
		{Is: broker.ErrUnavailable, Code: codes.Unavailable, Reason: "BROKER_UNAVAILABLE", Hide: true},
		{Is: broker.ErrClosed, Code: codes.Unavailable, Reason: "STOPPING"},
	}...),
	Metadata: whereToGoOn,
}

// whereToGoOn tells a participant that cannot go on where it was from where it can, and one that
// did not read how far it had come.
func whereToGoOn(err error) map[string]string {
	if broken, ok := errors.AsType[*broker.BreakError](err); ok {
		return map[string]string{"first_sequence": strconv.FormatUint(broken.First, 10)}
	}
	if slow, ok := errors.AsType[*notReadingError](err); ok {
		return map[string]string{"last_sequence": strconv.FormatUint(slow.last, 10)}
	}
	return nil
}
