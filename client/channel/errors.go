package channel

import (
	"errors"

	"example.com/quartet/internal/rpc"
)

// What a caller may have to tell apart besides the server's status codes and what package rpc names.
var (
	// ErrGap says that messages of a channel were missed.
	ErrGap = errors.New("messages were missed")
	// ErrLeft says that the conversation is over.
	ErrLeft = errors.New("conversation left")
)

// isDamage tells errors which say that messages are missing.
func isDamage(err error) bool { return errors.Is(err, ErrGap) || rpc.Reason(err) == "SEQUENCE_GONE" }
