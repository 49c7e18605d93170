package rpc

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// shedder refuses calls beyond a number that the process can serve. Refusing
// early is cheap for both sides, while a queue would only serve callers that
// have given up.
type shedder struct {
	limit   int64
	running atomic.Int64
}

// enter takes a place, or tells the client when to come back: in 0.25 to
// 0.75 s, spread out because grpc-go adds no jitter of its own to a pushback.
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
