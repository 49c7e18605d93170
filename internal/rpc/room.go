package rpc

import (
	"context"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// room is the memory for messages that are arriving, over all calls and for each caller. A message takes its share of it
// before the client is asked for it. Those that the window of a stream holds anyway take none, so that small calls do not
// wait for large ones.
type room struct {
	all   *semaphore.Weighted
	share int64         // of one caller
	wait  time.Duration // of a message, until the client is told to come back

	mu      sync.Mutex
	callers map[Caller]*callerRoom // of those with a message that arrives or waits
}

type callerRoom struct {
	*semaphore.Weighted
	users int
}

const (
	// roomPart is which part of the memory limit messages may take while they arrive.
	roomPart = 16
	// unlimitedRoom is for processes without a memory limit, in bytes.
	unlimitedRoom = 64 << 20
)

// newRoom has room for two of the largest messages for each of two callers at least.
func newRoom(cfg ServerConfig) *room {
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
	size = max(size, 4*largest)
	return &room{all: semaphore.NewWeighted(size), share: size / 2, wait: cfg.FirstMessageTimeout / 2, callers: map[Caller]*callerRoom{}}
}

// take waits for room for so many bytes. It returns the function that gives them back, or tells the client to come back.
func (r *room) take(ctx context.Context, caller Caller, bytes int64) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	own := r.enter(caller)
	if err = own.Acquire(waiting, bytes); err == nil {
		if err = r.all.Acquire(waiting, bytes); err == nil {
			return func() {
				r.all.Release(bytes)
				own.Release(bytes)
				r.leave(caller, own)
			}, nil
		}
		own.Release(bytes)
	}
	r.leave(caller, own)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, overloaded("too many large messages at once")
}

func (r *room) enter(caller Caller) *callerRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	own, known := r.callers[caller]
	if !known {
		own = &callerRoom{Weighted: semaphore.NewWeighted(r.share)}
		r.callers[caller] = own
	}
	own.users++
	return own
}

func (r *room) leave(caller Caller, own *callerRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(r.callers, caller)
	}
}
