package channel

import (
	"math/rand/v2"
	"sync"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel/broker"
)

// participants bounds how many there are and how fast they speak, over all and of one caller, so
// that none can take the place of all others.
type participants struct {
	all, perCaller int
	pace           *broker.Pace // of all messages

	mu    sync.Mutex
	count int
	by    map[rpc.Caller]*share // of callers that have participants
}

type share struct {
	count int
	pace  *broker.Pace
}

// newParticipants gives a caller half of the places and of the pace, if perCaller does not say
// otherwise.
func newParticipants(all, perCaller int, pace *broker.Pace) *participants {
	if perCaller == 0 {
		perCaller = max(1, all/2)
	}
	return &participants{all: all, perCaller: perCaller, pace: pace, by: map[rpc.Caller]*share{}}
}

// enter takes a place, to be left, and returns the pace at which the caller may speak; or it says
// when to come back.
func (p *participants) enter(caller rpc.Caller) (*broker.Pace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.by[caller]
	if s == nil {
		s = &share{pace: p.pace.Half()}
	}
	var problem string
	switch {
	case p.count >= p.all:
		problem = "too many participants"
	case s.count >= p.perCaller:
		problem = "too many participants of one caller"
	default:
		p.count++
		s.count++
		p.by[caller] = s
		return s.pace, nil
	}
	return nil, rpc.RetryAfter(codes.ResourceExhausted, problem, "TOO_MANY_PARTICIPANTS",
		busyDelay/2+rand.N(busyDelay))
}

func (p *participants) leave(caller rpc.Caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
	if s := p.by[caller]; s.count > 1 {
		s.count--
	} else {
		delete(p.by, caller)
	}
}
