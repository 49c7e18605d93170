package rpc

import (
	"cmp"
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/shares"
)

// load refuses calls beyond a number that the process can serve, and those of one caller beyond its
// share, so that no caller can take all of it. Refusing early is cheap for both sides, while a
// queue would only serve callers that have given up.
//
// Streams have places of their own, because they may wait for their clients for as long as they
// last: a unary call never waits for another caller's stream. So have watches of health, of which
// each connection of a client needs one.
type load struct {
	calls, streams, watches, checks *places
	rates                           *shares.Rates // of calls begun
}

func newLoad(cfg ServerConfig) *load {
	streams, streamsPerCaller := cmp.Or(cfg.MaxStreams, cfg.MaxInFlight),
		cmp.Or(cfg.MaxStreamsPerCaller, cfg.MaxInFlightPerCaller)
	connections := int64(cfg.MaxConnections)
	connectionsPerCaller := share(connections, int64(cfg.MaxConnectionsPerCaller))
	return &load{
		calls:   newPlaces("calls", cfg.MaxInFlight, share(cfg.MaxInFlight, cfg.MaxInFlightPerCaller)),
		streams: newPlaces("streams", streams, share(streams, min(streamsPerCaller, streams))),
		watches: newPlaces("watches", connections, connectionsPerCaller),
		checks:  newPlaces("checks", connections, connectionsPerCaller),
		// At once a caller may begin as many as in a second.
		rates: shares.NewRates(rate.Limit(cfg.MaxCallsPerSecond), cfg.MaxCallsPerSecond),
	}
}

// enter takes a place for a call before its first message is received, and returns the function
// that gives it back. Checks of the health have their own, and no rate: a busy server must still
// answer health checks.
func (l *load) enter(
	ctx context.Context, fullMethod string, stream bool,
) (leave func(), err error) {
	places, free := l.calls, false
	switch {
	case fullMethod == healthpb.Health_Watch_FullMethodName:
		places = l.watches
	case strings.HasPrefix(fullMethod, "/grpc.health.v1.Health/"):
		places, free = l.checks, true
	case stream:
		places = l.streams
	}
	caller := CallerOf(ctx)
	if !free && !l.rates.Allow(caller) {
		return nil, Overloaded("too many calls of one caller in a second")
	}
	if err := places.enter(caller); err != nil {
		return nil, err
	}
	return func() { places.leave(caller) }, nil
}

// Overloaded refuses a call that there is no room for, with RESOURCE_EXHAUSTED, and tells its
// client when to come back: in 0.25 to 0.75 s, spread out because clients add no jitter of their
// own to it. problem is what the client is told.
func Overloaded(problem string) error {
	after := 250*time.Millisecond + rand.N(500*time.Millisecond)
	return RetryAfter(codes.ResourceExhausted, problem, "OVERLOADED", after)
}

// places are for calls of one kind.
type places struct {
	what         string
	limit, share int64

	mu      sync.Mutex
	taken   int64
	callers map[Caller]int64 // of those that have calls under way
}

func newPlaces(what string, limit, share int64) *places {
	return &places{what: what, limit: limit, share: share, callers: map[Caller]int64{}}
}

func (p *places) enter(caller Caller) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.taken >= p.limit:
		return Overloaded("too many " + p.what + " at once")
	case p.callers[caller] >= p.share:
		return Overloaded("too many " + p.what + " of one caller at once")
	}
	p.taken++
	p.callers[caller]++
	return nil
}

func (p *places) leave(caller Caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.callers[caller]--; p.callers[caller] == 0 {
		delete(p.callers, caller)
	}
}

// untilRoom repeats unary calls that may be repeated when a server had no room for them and said
// when to come back. grpc-go's own retries do not tell that from a message which can never fit,
// since both are RESOURCE_EXHAUSTED.
func untilRoom(
	services []protoreflect.ServiceDescriptor, timeout time.Duration,
) grpc.UnaryClientInterceptor {
	repeatable := map[string]bool{} // by gRPC's full name, "/service/method"
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			repeatable["/"+string(service.FullName())+"/"+string(method.Name())] = mayRepeat(method)
		}
	}
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if !repeatable[method] {
			return invoker(ctx, method, request, reply, conn, opts...)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout) // of all attempts together
		defer cancel()
		for tries := 1; ; tries++ {
			err := invoker(ctx, method, request, reply, conn, opts...)
			if !IsBusy(err) || tries == retries.MaxAttempts || Sleep(ctx, RetryDelay(err)) != nil {
				return err
			}
		}
	}
}
