// Package rpc builds gRPC servers and clients the one way we run them: limits,
// keepalive, health, errors, TLS, load balancing and retries in one place. It
// knows no RPC by name.
package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"example.com/quartet/internal/telemetry"
)

// Service is what a server has to know of a service that it answers.
type Service struct {
	// Register registers its implementation, as the generated Register function does.
	Register func(grpc.ServiceRegistrar)
	// Errors are the status codes of its errors.
	Errors ErrorTable
	// MessageBytes is how large the largest message to a method may be, in bytes by its name, but not
	// more than MAX_RECEIVE_BYTES. Where a method has none, a request that is the only message of its
	// client may have 4 KiB, and other messages MAX_RECEIVE_BYTES.
	MessageBytes map[string]int
	// NameKinds are the kinds of names that its methods ask PermitName and PermitPrefix about, such as
	// "object". Permissions can name patterns for them.
	NameKinds []string
	// Codec encodes the messages of the whole server, if it is not nil; at most one service may set
	// it.
	Codec encoding.CodecV2
}

// Server is a gRPC server with its health.
type Server struct {
	grpc     *grpc.Server
	http     *grpc.Server // for HTTPHandler
	calls    *telemetry.ServerCalls
	tls      *reloading // nil if there is none
	health   *Health
	silent   *silent
	load     *load
	access   *access
	incoming *incoming
	unread   *unreadCalls
	unary    grpc.UnaryServerInterceptor // all of them
	bounds   Bounds
	// refused is told of connections beyond the bounds.
	refused func(net.Addr)
	// stopping ends the streams of built-in services.
	stopping context.Context
	stop     context.CancelFunc
}

// NewServer builds a server with services, and health and, unless it is off, reflection beside
// them. It is NOT_SERVING until Health().SetServing. domain is that of the ErrorInfo in its errors.
// opts win over what is chosen here.
func NewServer(cfg ServerConfig, t *telemetry.Telemetry, domain string, services []Service,
	opts ...grpc.ServerOption) (*Server, error) {
	all, err := registered(services)
	if err != nil {
		return nil, err
	}
	descriptors, err := all.descriptors()
	if err != nil {
		return nil, err
	}
	cfg.TLS.certificateOptional = cfg.Tokens.CertificateOptional
	creds, err := cfg.TLS.server(t.Log)
	if err != nil {
		return nil, err
	}
	if err := watchCertificate(t, cfg.TLS, "server", creds); err != nil {
		return nil, err
	}
	access, err := newAccess(cfg, creds, all.nameKinds(), t.Log)
	if err != nil {
		return nil, err
	}
	if err := watchKeys(t, access); err != nil {
		return nil, err
	}
	calls := t.NewServerCalls(append(descriptors, builtIns()...)...)
	s := &Server{
		health: newHealth(all.names()), silent: newSilent(), load: newLoad(cfg), access: access,
		refused: t.RefusedConnection,
		bounds: Bounds{All: cfg.MaxConnections,
			PerCaller: share(cfg.MaxConnections, cfg.MaxConnectionsPerCaller)},
	}
	s.calls = calls
	if access.lacksKeys() {
		t.Log.Warn("not ready: there are no keys for tokens yet, without which every call is refused")
		s.health.hold(true)
	}
	s.tls, _ = creds.(*reloading)
	if access != nil && access.tls != nil {
		creds = watchedCredentials{creds, access}
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	codec := encoding.CodecV2(newCodec())
	for _, service := range services {
		codec = cmp.Or(service.Codec, codec)
	}
	limits, err := all.messageLimits()
	if err != nil {
		return nil, err
	}
	s.incoming = newIncoming(cfg, limits, all.errorTables(domain), codec, t.Log)
	s.unread = newUnread(cfg, t.Log)
	interceptors := append(s.interceptors(t, calls), grpc.ForceServerCodecV2(withEncoded{codec}))
	options := append(transport(cfg), interceptors...)
	options = append(options, grpc.Creds(t.CountServerConnections(creds)))
	s.grpc = grpc.NewServer(append(options, opts...)...)
	s.http = grpc.NewServer(interceptors...)
	healthpb.RegisterHealthServer(&all, s.health.main)
	for _, server := range []*grpc.Server{s.grpc, s.http} {
		for _, service := range all {
			server.RegisterService(s.receiveRequests(service.desc), service.impl)
		}
		if cfg.Reflection {
			reflection.Register(server)
		}
	}
	return s, nil
}

// transport is what one client may take from the others before its messages are received.
func transport(cfg ServerConfig) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(cfg.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(headerListBytes),
		grpc.WriteBufferSize(cfg.BufferBytes),
		grpc.ReadBufferSize(cfg.BufferBytes),
		grpc.StaticStreamWindowSize(cfg.StreamWindowBytes),
		grpc.StaticConnWindowSize(max(serverConnectionWindow, cfg.StreamWindowBytes)),
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

// interceptors wraps every handler, outermost first: telemetry sees the status that the client
// gets, and the error table sees what a panic became. Before all of them arrivals are counted, and
// those refused that no interceptor sees.
func (s *Server) interceptors(
	t *telemetry.Telemetry, calls *telemetry.ServerCalls,
) []grpc.ServerOption {
	recovered := panics(t.Log)
	s.unary = chain(calls.UnaryInterceptor, s.incoming.errs.unary,
		recovery.UnaryServerInterceptor(recovered), s.encodeReply)
	return []grpc.ServerOption{
		grpc.ChainStreamInterceptor(calls.StreamInterceptor, s.stream, s.endBuiltIn,
			recovery.StreamServerInterceptor(recovered)),
		grpc.UnknownServiceHandler(unknown),
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			s.silent.spoke(ctx)
			calls.Arrived(info)
			err := refusal(ctx, info.FullMethodName)
			if err != nil {
				calls.Refused(ctx, info.FullMethodName, err)
			}
			return ctx, err
		}),
	}
}

// chain is grpc-go's, which has none for what it does not call by itself.
func chain(interceptors ...grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		for _, interceptor := range slices.Backward(interceptors) {
			next := handler
			handler = func(ctx context.Context, req any) (any, error) {
				return interceptor(ctx, req, info, next)
			}
		}
		return handler(ctx, req)
	}
}

// refusal is the answer to calls for which grpc-go runs no interceptor.
func refusal(ctx context.Context, fullMethod string) error {
	switch {
	case !strings.HasPrefix(fullMethod, "/") || strings.Count(fullMethod, "/") < 2:
		// grpc-go would send the whole name back, which may be more than the client takes.
		return unknownMethod(fullMethod)
	case errors.Is(ctx.Err(), context.DeadlineExceeded): // It came without any time.
		return &telemetry.ClientFault{Status: status.New(codes.DeadlineExceeded, deadlineText)}
	default:
		return nil
	}
}

// unknown answers for methods that are not registered. grpc-go would do so by
// itself, but outside of the interceptors.
func unknown(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return unknownMethod(method)
}

func unknownMethod(name string) error {
	return status.Error(codes.Unimplemented, "unknown method "+telemetry.MethodName(name))
}

// Health is what the process says about itself.
func (s *Server) Health() *Health { return s.health }

// Serve accepts connections on lis until the server is stopped, and then
// returns nil.
func (s *Server) Serve(lis net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.access.watch(ctx, s.incoming, s.health)
	return serve(s.grpc, s.silent.listen(s.unread.listen(s.bounds.bound(lis, s.refused))))
}

// serve counts a server that was stopped before it began as stopped.
func serve(server *grpc.Server, lis net.Listener) error {
	if err := server.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// handlerGrace is how long handlers have to return after Stop cancelled them.
const handlerGrace = time.Second

// GracefulStop lets running calls end until shortly before the deadline of ctx
// and then cuts them off, which it reports as an error. It waits until all
// handlers have returned; for handlers that ignore their context, a second at
// most, or a quarter of the time that ctx gives. Streams of health and
// reflection end at once, unless their client does not read, and so do calls
// whose client has not sent a message; connections without a call are closed:
// none of that is work, and grpc-go would wait for all of it.
func (s *Server) GracefulStop(ctx context.Context) error {
	handlerGrace := handlerGrace
	if deadline, ok := ctx.Deadline(); ok {
		handlerGrace = min(handlerGrace, time.Until(deadline)/4)
		limited, cancel := context.WithDeadline(ctx, deadline.Add(-handlerGrace))
		defer cancel()
		ctx = limited
	}
	s.stop()
	s.silent.close()
	s.incoming.stop()
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
	case <-time.After(handlerGrace):
		return errors.New("handlers or connections ignore that they were cut off")
	}
}
