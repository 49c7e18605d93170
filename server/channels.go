package main

import (
	"go.opentelemetry.io/otel/trace"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/channel"
)

// channelService answers quartet.v1.ChannelService.
type channelService struct {
	quartetv1.UnsafeChannelServiceServer

	broker *channel.Broker
	tracer trace.Tracer
	// draining is closed when the server is about to stop.
	draining <-chan struct{}
}
