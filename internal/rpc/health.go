package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Health tells clients, on the main port, and the kubelet, on a port of its
// own, whether to send calls here. Clients ask for "" or for a service.
type Health struct {
	services []string
	main     *health.Server
	probes   *Probes

	watching   context.Context
	endWatches context.CancelFunc
}

// newHealth starts as NOT_SERVING: a process is ready when it says so.
func newHealth(services []string) *Health {
	h := &Health{services: append([]string{""}, services...), main: health.NewServer(), probes: NewProbes()}
	h.watching, h.endWatches = context.WithCancel(context.Background())
	h.SetServing(false)
	return h
}

// SetServing says whether this process wants calls. Clients and the kubelet
// that watch hear of it at once.
func (h *Health) SetServing(serving bool) {
	for _, service := range h.services {
		h.main.SetServingStatus(service, servingStatus(serving))
	}
	h.probes.SetReady(serving)
}

// ServeProbes answers the kubelet on lis, in plaintext, until ctx is done.
func (h *Health) ServeProbes(ctx context.Context, lis net.Listener) error {
	return h.probes.Serve(ctx, lis)
}

// watched is the health service of the main port. Its Watch ends with a drain,
// as grpc-go's own does not: each client holds a Watch for as long as it has a
// connection, and GracefulStop would wait for all of them.
type watched struct {
	*health.Server
	health *Health
}

func (w watched) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(w.health.watching, cancel)()
	err := w.Server.Watch(req, &watchStream{stream, ctx})
	if w.health.watching.Err() != nil {
		return status.Error(codes.Unavailable, "the server is stopping")
	}
	return err
}

type watchStream struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (s *watchStream) Context() context.Context { return s.ctx }
