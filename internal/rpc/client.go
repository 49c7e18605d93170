package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // Without it healthCheckConfig is ignored.
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/telemetry"
)

// NewClient returns a connection to the services at target, balanced over all
// its replicas that say they are serving. A target without scheme is a DNS name
// and port, of which each address is a replica. Retries and deadlines follow
// from the services' descriptors; opts win over what is chosen here. Methods of
// other services are not for this connection: in a test such a call is refused
// with INTERNAL, and elsewhere the first one of each method is logged.
//
// Calls wait for a replica to be ready instead of failing at once, so every
// call needs a deadline or a context that its caller cancels.
func NewClient(cfg ClientConfig, t *telemetry.Telemetry, target string,
	services []protoreflect.ServiceDescriptor, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds, err := cfg.TLS.client(t.Log)
	if err != nil {
		return nil, err
	}
	if err := watchCertificate(t, cfg.TLS, "client", creds); err != nil {
		return nil, err
	}
	bearer, err := newBearerFile(cfg, t.Log)
	if err != nil {
		return nil, err
	}
	calls := t.NewClientCalls(services...)
	named := newNamed(t.Log, services)
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(t.CountClientConnections(creds)),
		grpc.WithDefaultServiceConfig(serviceConfig(services, cfg.UnaryTimeout)),
		grpc.WithDisableServiceConfig(), // from DNS, where none is published
		grpc.WithIdleTimeout(0),         // an idle client must not lose its replicas
		grpc.WithResolvers(pollDNS(cfg.ResolveInterval)),
		grpc.WithConnectParams(connectParams(cfg.ResolveInterval)),
		grpc.WithMaxHeaderListSize(headerListBytes),
		grpc.WithWriteBufferSize(cfg.BufferBytes),
		grpc.WithReadBufferSize(cfg.BufferBytes),
		grpc.WithStaticStreamWindowSize(cfg.StreamWindowBytes),
		grpc.WithStaticConnWindowSize(connectionWindow(cfg.StreamWindowBytes)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cfg.MaxReceiveBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                cfg.KeepaliveTime,
			Timeout:             cfg.KeepaliveTimeout,
			PermitWithoutStream: true,
		}),
		grpc.WithChainUnaryInterceptor(named.unary, exceptBuiltIn(calls.UnaryInterceptor),
			untilRoom(services, cfg.UnaryTimeout), unsent),
		grpc.WithChainStreamInterceptor(named.stream, calls.StreamInterceptor, sentOnce),
	}
	if bearer != nil {
		options = append(options, grpc.WithPerRPCCredentials(bearer))
	}
	if !cfg.Proxy {
		// In a cluster the variables are about the way out of it, and NO_PROXY seldom has the short names
		// within.
		options = append(options, grpc.WithNoProxy())
	}
	conn, err := grpc.NewClient(target, append(options, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", target, err)
	}
	return conn, nil
}

// exceptBuiltIn leaves the questions of unreadiness out of the metrics.
func exceptBuiltIn(interceptor grpc.UnaryClientInterceptor) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
		invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if isBuiltIn(method) {
			return invoker(ctx, method, request, reply, conn, opts...)
		}
		return interceptor(ctx, method, request, reply, conn, invoker, opts...)
	}
}

// unsent gives a status to a call whose request could not be written to its connection, in the last
// of its attempts: grpc-go returns io.EOF then, which says nothing to a caller and is not taken for
// an outage.
func unsent(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoker(ctx, method, request, reply, conn, opts...)
	if err == io.EOF { //nolint:errorlint // A status may wrap one.
		return status.Error(codes.Unavailable, "the connection was lost before the request was sent")
	}
	return err
}

// sentOnce keeps grpc-go from repeating a stream by itself once its client has sent a message. It
// may do so after a Send that has failed with io.EOF, with the messages up to that one: after
// CloseSend the server takes them for all there are, and without it server and client wait for each
// other. Such a stream is resumed by Resumption.
func sentOnce(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if desc.ClientStreams {
		opts = append(opts[:len(opts):len(opts)], grpc.MaxRetryRPCBufferSize(0))
	}
	return streamer(ctx, desc, conn, method, opts...)
}

// waitTime is how long a connection may take before WaitReady says why, and how often it looks
// whether the reason has changed.
const waitTime = time.Second

// WaitReady connects and returns when a replica is ready, or, with the reason why none is, when ctx
// is done. Meanwhile it calls onWait, which may be nil, with the reason: once after a second, and
// again whenever there is one that it has not had yet.
func WaitReady(ctx context.Context, conn *grpc.ClientConn, onWait func(reason string)) error {
	var known waitReasons
	for {
		soon, cancel := context.WithTimeout(ctx, waitTime)
		err := waitReady(soon, conn)
		cancel()
		if err == nil || errors.Is(err, errClosed) {
			return err
		}
		reason := unreadiness(conn)
		isNew := known.add(reason)
		if ctx.Err() != nil {
			return fmt.Errorf("server at %s: %s", conn.Target(), known.mostSpecific(reason))
		}
		if isNew && onWait != nil {
			onWait(reason)
		}
	}
}

var errClosed = errors.New("the connection is closed")

func waitReady(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		conn.Connect()
		state := conn.GetState()
		switch {
		case state == connectivity.Ready:
			return nil
		case state == connectivity.Shutdown:
			return errClosed
		case !conn.WaitForStateChange(ctx, state):
			return ctx.Err()
		}
	}
}

// WaitGone returns nil once conn has been without a ready replica for absence
// at a stretch, and the error of ctx when that is done before.
func WaitGone(ctx context.Context, conn *grpc.ClientConn, absence time.Duration) error {
	for {
		soon, cancel := context.WithTimeout(ctx, absence)
		err := waitReady(soon, conn)
		cancel()
		if err != nil || !conn.WaitForStateChange(ctx, connectivity.Ready) {
			return ctx.Err()
		}
	}
}

// connectParams are grpc-go's own, but for the longest pause before an address
// that refused is tried again, which is two minutes there. Nothing shortens a
// pause: a server that comes back at its old address would be found late.
func connectParams(longest time.Duration) grpc.ConnectParams {
	pauses := backoff.DefaultConfig
	pauses.BaseDelay, pauses.MaxDelay = min(pauses.BaseDelay, longest), longest
	return grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 20 * time.Second}
}
