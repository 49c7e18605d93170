package echo

import (
	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/echo/text"
)

// errorTable is the one place where errors of the domain become status codes. Whatever is not here
// reaches a client as INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{
	Rules: append(rpc.StreamRules, []rpc.ErrorRule{
		{Is: text.ErrTooLarge, Code: codes.InvalidArgument, Reason: "TEXT_TOO_LARGE"},
		{Is: text.ErrOutOfRange, Code: codes.OutOfRange, Reason: "OUT_OF_RANGE"},
	}...),
}
