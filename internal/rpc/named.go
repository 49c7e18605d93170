package rpc

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// named watches that a connection is used for the services that NewClient was told of. A call of
// another method would have neither deadline nor retries, and its numbers would be among "other".
type named struct {
	log     *slog.Logger
	inTest  bool
	methods map[string]bool // by gRPC's full name, "/service/method"
	logged  sync.Map        // of those that are not named; the program's code has a handful at most
}

func newNamed(log *slog.Logger, services []protoreflect.ServiceDescriptor) *named {
	n := &named{log: log, inTest: testing.Testing(), methods: map[string]bool{}}
	for _, service := range services {
		for i := range service.Methods().Len() {
			n.methods["/"+string(service.FullName())+"/"+string(service.Methods().Get(i).Name())] = true
		}
	}
	return n
}

// check returns an error in tests, where a developer sees it, and logs in production, where the
// call may well succeed.
func (n *named) check(fullMethod string) error {
	if n.methods[fullMethod] || isBuiltIn(fullMethod) {
		return nil
	}
	if n.inTest {
		return status.Errorf(codes.Internal, "NewClient was not told of the service of %s: name it there",
			fullMethod)
	}
	if _, before := n.logged.LoadOrStore(fullMethod, true); !before {
		n.log.Error("call without deadline, retries and metrics of its own: NewClient was not told of its service", "method", fullMethod)
	}
	return nil
}

func (n *named) unary(ctx context.Context, fullMethod string, req, reply any, conn *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := n.check(fullMethod); err != nil {
		return err
	}
	return invoker(ctx, fullMethod, req, reply, conn, opts...)
}

func (n *named) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn,
	fullMethod string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := n.check(fullMethod); err != nil {
		return nil, err
	}
	return streamer(ctx, desc, conn, fullMethod, opts...)
}
