package channel

import (
	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel/broker"
)

// errorTable is the one place where errors of the broker become status codes. Whatever is not here reaches a client as
// INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{
	Rules: append(rpc.StreamRules, []rpc.ErrorRule{
		{Is: broker.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: broker.ErrInvalidMessageID, Code: codes.InvalidArgument, Reason: "INVALID_MESSAGE_ID"},
		{Is: broker.ErrBodyTooLarge, Code: codes.InvalidArgument, Reason: "BODY_TOO_LARGE"},
		{Is: broker.ErrSequenceGone, Code: codes.OutOfRange, Reason: "SEQUENCE_GONE"},
		{Is: broker.ErrTooManyChannels, Code: codes.ResourceExhausted, Reason: "TOO_MANY_CHANNELS"},
		{Is: broker.ErrUnavailable, Code: codes.Unavailable, Reason: "BROKER_UNAVAILABLE", Hide: true},
		{Is: broker.ErrClosed, Code: codes.Unavailable, Reason: "STOPPING"},
	}...),
}
