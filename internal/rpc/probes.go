package rpc

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// The names that the kubelet asks for.
const (
	Liveness  = "liveness"
	Readiness = "readiness"
)

// Probes answers the kubelet on a port of its own, because it speaks no TLS. A
// process without a Server has them by themselves.
//
// Liveness, and the name "", are SERVING as long as the process runs: liveness
// never follows readiness, or a drain would end in a restart.
type Probes struct{ health *health.Server }

// probeGrace is how long a call on a connection of builtInAge may still take.
const probeGrace = time.Minute

// OperatorBounds are those of ports that only the kubelet, Prometheus and operators have a use for.
var OperatorBounds = Bounds{All: 100, PerCaller: 50}

// NewProbes starts as not ready.
func NewProbes() *Probes {
	p := &Probes{health.NewServer()}
	p.health.SetServingStatus(Liveness, healthpb.HealthCheckResponse_SERVING)
	p.SetReady(false)
	return p
}

// SetReady says whether the process may be sent work.
func (p *Probes) SetReady(ready bool) { p.health.SetServingStatus(Readiness, servingStatus(ready)) }

// Serve answers on lis, in plaintext, until ctx is done, and then returns nil.
func (p *Probes) Serve(ctx context.Context, lis net.Listener) error {
	silent := newSilent() // Stop waits for handshakes, and would do so for a peer that says nothing.
	server := grpc.NewServer(grpc.MaxHeaderListSize(headerListBytes), grpc.MaxConcurrentStreams(10),
		grpc.MaxRecvMsgSize(builtInBytes),
		// A peer that does not take its replies keeps neither them nor its connection.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: builtInAge, MaxConnectionAgeGrace: probeGrace}),
		grpc.UnknownServiceHandler(unknown))
	healthpb.RegisterHealthServer(server, p.health)
	defer server.Stop()
	defer context.AfterFunc(ctx, func() {
		silent.close()
		server.Stop()
	})()
	return serve(server, silent.listen(OperatorBounds.Bound(lis, nil)))
}

func servingStatus(serving bool) healthpb.HealthCheckResponse_ServingStatus {
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
