package rpc

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shedder refuses calls beyond a number that the process can serve. Refusing
// early is cheap for both sides, while a queue would only serve callers that
// have given up.
type shedder struct {
	limit   int64
	running atomic.Int64
}

// enter takes a place, or tells the client when to come back: in 0.25 to
// 0.75 s, spread out because clients add no jitter of their own to it.
func (s *shedder) enter() error {
	if s.running.Add(1) <= s.limit {
		return nil
	}
	s.leave()
	after := 250*time.Millisecond + rand.N(500*time.Millisecond)
	return RetryAfter(codes.ResourceExhausted, "too many calls at once", "OVERLOADED", after)
}

func (s *shedder) leave() { s.running.Add(-1) }

// isHealth exempts health checks: a busy server must not look dead.
func isHealth(fullMethod string) bool {
	return strings.HasPrefix(fullMethod, "/grpc.health.v1.Health/")
}

func (s *shedder) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if isHealth(info.FullMethod) {
		return handler(ctx, req)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return handler(ctx, req)
}

func (s *shedder) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if isHealth(info.FullMethod) {
		return handler(srv, stream)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
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
