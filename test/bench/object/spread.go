package object

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
)

// spreadOver makes one connection of several: each call goes over the next of them. A connection is
// read and written by one goroutine each, so that several big transfers at once are faster on
// several connections, where there are processors for them. One transfer at a time is not.
func spreadOver(connections ...grpc.ClientConnInterface) grpc.ClientConnInterface {
	return &spread{connections: connections}
}

type spread struct {
	connections []grpc.ClientConnInterface
	calls       atomic.Uint64
}

func (s *spread) next() grpc.ClientConnInterface {
	return s.connections[s.calls.Add(1)%uint64(len(s.connections))]
}

// Invoke implements grpc.ClientConnInterface.
func (s *spread) Invoke(
	ctx context.Context, method string, request, reply any, options ...grpc.CallOption,
) error {
	return s.next().Invoke(ctx, method, request, reply, options...)
}

// NewStream implements grpc.ClientConnInterface.
func (s *spread) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return s.next().NewStream(ctx, desc, method, options...)
}
