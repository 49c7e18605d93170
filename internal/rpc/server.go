// Package rpc builds gRPC servers and clients the one way we run them: limits,
// keepalive, health, errors, TLS, load balancing and retries in one place. It
// knows no RPC by name.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// Server is a gRPC server with its health.
type Server struct {
	grpc   *grpc.Server
	health *Health
}

// NewServer builds a server with the services that register adds, and health
// and reflection beside them. It is NOT_SERVING until Health().SetServing. opts
// win over what is chosen here.
func NewServer(cfg ServerConfig, t *telemetry.Telemetry, errs ErrorTable, register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) (*Server, error) {
	var services registrations
	register(&services)
	descriptors, err := services.descriptors()
	if err != nil {
		return nil, err
	}
	creds, err := cfg.TLS.server(t.Log)
	if err != nil {
		return nil, err
	}
	calls := t.NewServerCalls(append(descriptors, plumbing()...)...)
	options := append(limits(cfg), interceptors(cfg, t, calls, errs)...)
	options = append(options, grpc.Creds(t.CountServerConnections(creds)))
	s := &Server{grpc.NewServer(append(options, opts...)...), newHealth(services.names())}
	for _, service := range services {
		s.grpc.RegisterService(service.desc, service.impl)
	}
	healthpb.RegisterHealthServer(s.grpc, watched{s.health.main, s.health})
	reflection.Register(s.grpc)
	return s, nil
}

// limits is what one client may take from the others.
func limits(cfg ServerConfig) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(cfg.MaxConcurrentStreams),
		grpc.MaxRecvMsgSize(cfg.MaxReceiveBytes),
		grpc.MaxHeaderListSize(headerListBytes),
		grpc.WriteBufferSize(cfg.BufferBytes),
		grpc.ReadBufferSize(cfg.BufferBytes),
		grpc.StaticStreamWindowSize(cfg.StreamWindowBytes),
		grpc.StaticConnWindowSize(connectionWindow(cfg.StreamWindowBytes)),
		grpc.ConnectionTimeout(cfg.ConnectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: cfg.MaxConnectionAge,
			Time:             cfg.KeepaliveTime,
			Timeout:          cfg.KeepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             cfg.KeepaliveMinTime,
			PermitWithoutStream: true,
		}),
	}
}

// interceptors wraps every handler, outermost first: telemetry sees the status
// that the client gets, the error table sees what a panic became, and a call
// that is shed never reaches its handler. Before all of them arrivals are
// counted.
func interceptors(cfg ServerConfig, t *telemetry.Telemetry, calls *telemetry.ServerCalls, errs ErrorTable) []grpc.ServerOption {
	panics, load := recovery{t.Log}, &shedder{limit: cfg.MaxInFlight}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(calls.UnaryInterceptor, errs.unary, panics.unary, load.unary),
		grpc.ChainStreamInterceptor(calls.StreamInterceptor, errs.stream, panics.stream, load.stream),
		grpc.UnknownServiceHandler(unknown),
		grpc.InTapHandle(calls.Arrived),
	}
}

// unknown answers for methods that nobody registered. grpc-go would do so by
// itself, but out of telemetry's sight.
func unknown(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

// Health is what the process says about itself.
func (s *Server) Health() *Health { return s.health }

// Serve accepts connections on lis until the server is stopped, and then
// returns nil.
func (s *Server) Serve(lis net.Listener) error { return serve(s.grpc, lis) }

// serve counts a server that was stopped before it began as stopped.
func serve(server *grpc.Server, lis net.Listener) error {
	if err := server.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// unwind is how long handlers have to return after Stop cancelled them.
const unwind = time.Second

// GracefulStop lets running calls end until ctx is done and then cuts them off,
// which it reports as an error. It waits until all handlers have returned; for
// handlers that ignore their context, a second at most. The same holds for
// connections that are open and have not said a word, which grpc-go waits for
// until their ConnectionTimeout before it does anything else.
func (s *Server) GracefulStop(ctx context.Context) error {
	s.health.endWatches()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
	}
	go s.grpc.Stop()
	select {
	case <-stopped:
		return fmt.Errorf("calls were cut off: %w", context.Cause(ctx))
	case <-time.After(unwind):
		return errors.New("handlers or connections ignore that they were cut off")
	}
}
