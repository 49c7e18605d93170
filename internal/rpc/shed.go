package rpc

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shedder refuses calls beyond a number that the process can serve, and those of one caller beyond its share, so that no
// caller can take all of it. Refusing early is cheap for both sides, while a queue would only serve callers that have given
// up.
type shedder struct {
	limit, share int64
	running      atomic.Int64

	mu     sync.Mutex
	shares map[Caller]int64 // of those that have calls under way
}

func newShedder(limit, share int64) *shedder {
	return &shedder{limit: limit, share: share, shares: map[Caller]int64{}}
}

// enter takes a place for a caller, or tells the client when to come back: in 0.25 to 0.75 s, spread out because clients
// add no jitter of their own to it.
func (s *shedder) enter(caller Caller) error {
	problem := "too many calls at once"
	if s.running.Add(1) <= s.limit {
		if s.takeShare(caller) {
			return nil
		}
		problem = "too many calls of one caller at once"
	}
	s.running.Add(-1)
	after := 250*time.Millisecond + rand.N(500*time.Millisecond)
	return RetryAfter(codes.ResourceExhausted, problem, "OVERLOADED", after)
}

func (s *shedder) takeShare(caller Caller) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares[caller] >= s.share {
		return false
	}
	s.shares[caller]++
	return true
}

func (s *shedder) leave(caller Caller) {
	s.running.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares[caller]--; s.shares[caller] == 0 {
		delete(s.shares, caller)
	}
}

// isHealth exempts health checks: a busy server must not look dead.
func isHealth(fullMethod string) bool {
	return strings.HasPrefix(fullMethod, "/grpc.health.v1.Health/")
}

func (s *shedder) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if req == nil || isHealth(info.FullMethod) { // Without a request nothing is worked on.
		return handler(ctx, req)
	}
	caller := CallerOf(ctx)
	if err := s.enter(caller); err != nil {
		return nil, err
	}
	defer s.leave(caller)
	return handler(ctx, req)
}

func (s *shedder) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if isHealth(info.FullMethod) {
		return handler(srv, stream)
	}
	caller := CallerOf(stream.Context())
	if err := s.enter(caller); err != nil {
		return err
	}
	defer s.leave(caller)
	return handler(srv, stream)
}

// untilRoom repeats unary calls that may be repeated when a server had no room for them and said when to come back. grpc-go's
// own retries do not tell that from a message which can never fit, since both are RESOURCE_EXHAUSTED.
func untilRoom(services []protoreflect.ServiceDescriptor, timeout time.Duration) grpc.UnaryClientInterceptor {
	repeatable := map[string]bool{} // by gRPC's full name, "/service/method"
	for _, service := range services {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			repeatable["/"+string(service.FullName())+"/"+string(method.Name())] = mayRepeat(method)
		}
	}
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
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
