package cost

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// headerAlone is grpc-go with nothing but a traceparent on each call, and a server that takes it:
// the least that it costs to pass a trace on, sampled or not, by any means.
func headerAlone() (*instruments, error) {
	return &instruments{
		server:   []grpc.ServerOption{grpc.ChainUnaryInterceptor(takeHeader)},
		client:   []grpc.DialOption{grpc.WithChainUnaryInterceptor(sendHeader)},
		registry: prometheus.NewRegistry(),
	}, nil
}

const traceparent = "traceparent"

func sendHeader(
	ctx context.Context, method string, request, reply any,
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx = metadata.AppendToOutgoingContext(ctx, traceparent, newTraceparent())
	return invoke(ctx, method, request, reply, conn, options...)
}

func takeHeader(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	if len(metadata.ValueFromIncomingContext(ctx, traceparent)) != 1 {
		return nil, status.Error(codes.InvalidArgument, "no traceparent")
	}
	return handle(ctx, request)
}

// newTraceparent is another one each time, of a trace that is not sampled.
func newTraceparent() string {
	var ids [24]byte
	for i := 0; i < len(ids); i += 8 {
		binary.LittleEndian.PutUint64(ids[i:], rand.Uint64())
	}
	header := append(make([]byte, 0, 55), "00-"...)
	header = append(hex.AppendEncode(header, ids[:16]), '-')
	return string(append(hex.AppendEncode(header, ids[16:]), "-00"...))
}
