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
	// errAmbiguousStart refuses a join that sets more than one of the three.
	errAmbiguousStart = errors.New("a join begins at one place: after_sequence, after or from_sequence")
	// errNotReading ends a stream that could not be written to for SendTimeout.
	errNotReading = errors.New("the participant does not read")
	// errOver is what send returns once the last reply has been sent. No client sees it: the
	// conversation has ended with something else already.
	errOver = errors.New("the conversation is over")
)

// notReadingError is errNotReading with the sequence of the last message that was sent, which may
// not have arrived. The participant may join again after it, or after the last one it has seen.
type notReadingError struct{ last uint64 }

func (e *notReadingError) Error() string {
	return fmt.Sprintf("%v; the last message that was sent has the sequence %d", errNotReading, e.last)
}

func (e *notReadingError) Unwrap() error { return errNotReading }

// errorTable is the one place where errors of the broker become status codes, those that the
// comment on Exchange in the .proto promises. Whatever is not here reaches a client as INTERNAL
// with a fixed text, and the log with its own. Hide keeps the text from clients as well: that of
// the broker may have addresses and folders in it.
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

// whereToGoOn is the metadata of an error: first_sequence tells a participant that cannot go on
// where it was from where it can, and last_sequence one that did not read how far it had come.
func whereToGoOn(err error) map[string]string {
	if broken, ok := errors.AsType[*broker.BreakError](err); ok {
		return map[string]string{"first_sequence": strconv.FormatUint(broken.First, 10)}
	}
	if slow, ok := errors.AsType[*notReadingError](err); ok {
		return map[string]string{"last_sequence": strconv.FormatUint(slow.last, 10)}
	}
	return nil
}
