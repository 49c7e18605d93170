package rpc

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/health"
)

// Health tells clients, on the main port, and the kubelet, on a port of its
// own, whether to send calls here. Clients ask for "" or for a service.
type Health struct {
	services []string
	main     *health.Server
	probes   *Probes

	mu            sync.Mutex
	serving, held bool
	// down has the services that cannot do their work although the process serves.
	down map[string]bool
}

// newHealth starts as NOT_SERVING: a process is ready when it says so.
func newHealth(services []string) *Health {
	h := &Health{services: append([]string{""}, services...), main: health.NewServer(),
		probes: NewProbes(), down: map[string]bool{}}
	h.SetServing(false)
	return h
}

// SetServing says whether this process wants calls. Clients and the kubelet that watch hear of it
// at once. While hold says that the server cannot serve any call, they are told NOT_SERVING all the
// same.
func (h *Health) SetServing(serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = serving
	h.tell()
}

// hold says whether the server cannot serve any call, whatever the process wants.
func (h *Health) hold(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held
	h.tell()
}

func (h *Health) isHeld() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// tell tells clients and the kubelet. The caller holds the lock.
func (h *Health) tell() {
	serving := h.serving && !h.held
	for _, service := range h.services {
		h.main.SetServingStatus(service, servingStatus(serving && !h.down[service]))
	}
	h.probes.SetReady(serving)
}

// SetServiceServing says whether a service can do its work, of a process that wants calls. It
// changes what clients are told that ask for this service by its full name, and nothing else: the
// other services go on, and a restart by the kubelet would not help.
func (h *Health) SetServiceServing(service string, serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down[service] = !serving
	h.tell()
}

// ServeProbes answers the kubelet on lis, in plaintext, until ctx is done.
func (h *Health) ServeProbes(ctx context.Context, lis net.Listener) error {
	return h.probes.Serve(ctx, lis)
}
