package channel

import (
	"maps"
	"math/rand/v2"
	"sync"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel/broker"
)

// participants bounds how many participants are on this replica and how fast they speak, over all
// and by caller, so that no caller can take the place of all others.
type participants struct {
	all, perCaller int
	// pace is that of all messages; a caller gets half of it.
	pace *broker.Pace

	mu    sync.Mutex
	count int
	// byCaller has the callers that have participants now, or whose pace is not idle yet.
	byCaller map[rpc.Caller]*share
	// sweepAt is how many there may be before the others are forgotten.
	sweepAt int
}

// minSweep is how many callers are known before it is worth looking for those to forget.
const minSweep = 1024

// share is what one caller has: the number of its participants, and the pace that they share.
type share struct {
	count int
	pace  *broker.Pace
}

// newParticipants takes the numbers of places over all and for one caller. If perCaller is 0, a
// caller may have half of all.
func newParticipants(all, perCaller int, pace *broker.Pace) *participants {
	if perCaller == 0 {
		perCaller = max(1, all/2)
	}
	return &participants{all: all, perCaller: perCaller, pace: pace,
		byCaller: map[rpc.Caller]*share{}, sweepAt: minSweep}
}

// enter takes a place for a participant and returns the pace at which its caller may speak. The
// participant must leave. If there is no place, the error has the status of the contract
// (TOO_MANY_PARTICIPANTS) and when to come back.
func (p *participants) enter(caller rpc.Caller) (*broker.Pace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.byCaller[caller]
	if s == nil {
		s = &share{pace: p.pace.Half()}
	}
	// A new share is noted only with its first participant: refused callers must not fill the map.
	var problem string
	switch {
	case p.count >= p.all:
		problem = "too many participants"
	case s.count >= p.perCaller:
		problem = "too many participants of one caller"
	default:
		if len(p.byCaller) >= p.sweepAt {
			maps.DeleteFunc(p.byCaller, func(_ rpc.Caller, s *share) bool { return s.isIdle() })
			p.sweepAt = max(minSweep, 2*len(p.byCaller))
		}
		p.count++
		s.count++
		p.byCaller[caller] = s
		return s.pace, nil
	}
	return nil, rpc.RetryAfter(codes.ResourceExhausted, problem, "TOO_MANY_PARTICIPANTS",
		busyDelay/2+rand.N(busyDelay))
}

// leave gives back the place of a participant. The pace of its caller is kept until it is idle, so
// that a caller does not speak faster by leaving and coming back.
func (p *participants) leave(caller rpc.Caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
	s := p.byCaller[caller]
	if s.count--; s.isIdle() {
		delete(p.byCaller, caller)
	}
}

// isIdle tells whether nothing is lost if the share is made anew.
func (s *share) isIdle() bool { return s.count == 0 && s.pace.IsIdle() }
