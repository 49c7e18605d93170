package rpc

import (
	"context"
	"math"
	"runtime/debug"
	"time"

	"example.com/quartet/internal/shares"
)

// room is the memory for messages that are arriving, over all calls and for each caller. A message
// takes its share of it before the client is asked for it. Those that the window of a stream holds
// anyway take none, so that small calls do not wait for large ones.
type room struct {
	*shares.Shares
	wait time.Duration // of a message, until the client is told to come back
}

const (
	// roomPart is which part of the memory limit messages may take while they arrive.
	roomPart = 16
	// unlimitedRoom is for processes without a memory limit, in bytes.
	unlimitedRoom = 64 << 20
)

// newRoom has room for two of the largest messages for each of two callers at least.
func newRoom(cfg ServerConfig) *room {
	size := roomBytes(cfg)
	return &room{shares.New(size, size/2, 0), cfg.FirstMessageTimeout / 2}
}

// roomBytes is what all messages may take that are on their way in one direction.
func roomBytes(cfg ServerConfig) int64 {
	size := cfg.ArrivingBytes
	if limit := debug.SetMemoryLimit(-1); size == 0 && limit < math.MaxInt64 {
		size = limit / roomPart
	} else if size == 0 {
		size = unlimitedRoom
	}
	largest := int64(cfg.MaxReceiveBytes)
	if cfg.AcceptCompressed {
		largest *= 2
	}
	return max(size, 4*largest)
}

// take waits for room for so many bytes. It returns the function that gives them back, or tells the
// client to come back.
func (r *room) take(ctx context.Context, caller Caller, bytes int64) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	release, err = r.Take(waiting, caller, bytes)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	default:
		return nil, Overloaded("too many large messages at once")
	}
}
