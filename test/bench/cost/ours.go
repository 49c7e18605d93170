package cost

import (
	"context"
	"io"
	"log/slog"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/telemetry"
)

// ours is what internal/rpc puts around every connection and call, with the log level of
// production. Without spans it is a process that no collector was named to.
func ours(s *spans) (*instruments, error) {
	config := telemetry.Config{LogLevel: slog.LevelInfo, LogFormat: "json", TraceTrust: telemetry.TrustAll}
	t := telemetry.New(telemetry.Identity{Namespace: "bench", Service: "bench"}, config, io.Discard)
	if s != nil {
		s.provider = t.TraceTo(s.variable, sdktrace.WithBatcher(s))
	}
	in, out := t.NewServerCalls(service()), t.NewClientCalls(service())
	return &instruments{
		server: []grpc.ServerOption{
			grpc.Creds(t.CountServerConnections(insecure.NewCredentials())),
			grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
				in.Arrived(info)
				return ctx, nil
			}),
			grpc.ChainUnaryInterceptor(in.UnaryInterceptor),
			grpc.ChainStreamInterceptor(in.StreamInterceptor),
		},
		client: []grpc.DialOption{
			grpc.WithTransportCredentials(t.CountClientConnections(insecure.NewCredentials())),
			grpc.WithChainUnaryInterceptor(out.UnaryInterceptor),
			grpc.WithChainStreamInterceptor(out.StreamInterceptor),
		},
		registry: t.Registry,
		spans:    s,
	}, nil
}

func service() protoreflect.ServiceDescriptor {
	return grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")
}
