package main

import (
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/channel"
)

// channelService answers quartet.v1.ChannelService.
type channelService struct {
	quartetv1.UnsafeChannelServiceServer

	broker *channel.Broker
	// draining is closed when the server is about to stop.
	draining <-chan struct{}
}

// Limits of the W3C trace context: a traceparent of version 00 has 55 bytes, and later versions may have more; a
// tracestate of 512 bytes is what everybody must pass on.
const (
	maxTraceparent = 128
	maxTracestate  = 512
)

// traceContext takes the trace of a message if it is of a sane size. It is nothing that a message should fail for.
func traceContext(t *quartetv1.TraceContext) (traceparent, tracestate string) {
	if len(t.GetTraceparent()) > maxTraceparent || len(t.GetTracestate()) > maxTracestate {
		return "", ""
	}
	return t.GetTraceparent(), t.GetTracestate()
}
