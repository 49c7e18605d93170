package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc/health"
)

// Health tells clients, on the main port, and the kubelet, on a port of its
// own, whether to send calls here. Clients ask for "" or for a service.
type Health struct {
	services []string
	main     *health.Server
	probes   *Probes
}

// newHealth starts as NOT_SERVING: a process is ready when it says so.
func newHealth(services []string) *Health {
	h := &Health{services: append([]string{""}, services...), main: health.NewServer(),
		probes: NewProbes()}
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
