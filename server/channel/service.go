// Package channel answers ChannelService: it translates between the contract and the broker. What
// the service does is in the package broker, which knows no gRPC.
//
// A message passes exchange.go (speak), broker/publish.go, NATS, broker/hub.go (announced, ring),
// broker/subscription.go (Next) and exchange.go (listen).
package channel

import (
	"context"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel/broker"
)

// Service is what the server has of ChannelService, for the list in server/main.go. The host fills
// cfg from the environment before it calls Open.
func Service() app.Service {
	cfg := &Config{}
	return app.Service{
		Name:   "channel",
		Config: cfg,
		Open: func(ctx context.Context, host app.Host) (app.Opened, error) {
			bs, err := broker.OpenAll(ctx, string(cfg.URL), cfg.options(host.Telemetry), cfg.Prefixes)
			if err != nil {
				return app.Opened{}, err
			}
			s := &service{
				host: host, config: *cfg, brokers: bs,
				participants: newParticipants(cfg.MaxParticipants, cfg.MaxParticipantsPerCaller, bs.Pace()),
			}
			return app.Opened{
				Service: rpc.Service{
					Register: func(r grpc.ServiceRegistrar) { quartetv1.RegisterChannelServiceServer(r, s) },
					Errors:   errorTable,
					// Twice the largest body: what is somewhat too long reaches the broker, which refuses it with
					// BODY_TOO_LARGE; what is far too long is refused by the host and never reaches the handler.
					MessageBytes: map[string]int{"Exchange": 2 * broker.MaxBody},
					NameKinds:    []string{channelKind, participantKind},
				},
				Check: bs.Check,
				Close: bs.Close,
			}, nil
		},
	}
}

// What permissions call the names in a join.
const (
	channelKind     = "channel"
	participantKind = "participant"
)

// service answers quartet.v1.ChannelService.
type service struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks the
	// build until it is written.
	quartetv1.UnsafeChannelServiceServer

	host         app.Host
	config       Config
	brokers      *broker.Brokers
	participants *participants
}
