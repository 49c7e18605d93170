// Package channel calls ChannelService well: a conversation that goes on after a break without a
// gap or a duplicate. Beside it stands what the command line makes of it: its command, and this
// service's part of the steady traffic.
package channel

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Options change how calls are made. The zero value is what most programs want.
type Options struct {
	// Resumption is how conversations that break are continued. Its Log is set by the client.
	Resumption rpc.Resumption
	// Telemetry takes the metrics of conversations, for one Client, the spans of messages, and log
	// lines of resumes. They go nowhere if it is nil.
	Telemetry *telemetry.Telemetry
}

// Client calls ChannelService, by any number of conversations. It is safe for concurrent use.
type Client struct {
	channels quartetv1.ChannelServiceClient
	options  Options
	// rejoins counts joins of conversations after their first.
	rejoins prometheus.Counter
}

// NewClient makes a client from a connection, for which rpc.NewClient has to know the service.
func NewClient(conn grpc.ClientConnInterface, options Options) *Client {
	if options.Telemetry == nil {
		options.Telemetry = telemetry.Discard()
	}
	options.Resumption.Log = options.Telemetry.Log
	return &Client{
		channels: quartetv1.NewChannelServiceClient(conn),
		options:  options,
		rejoins: promauto.With(options.Telemetry.Metrics).NewCounter(prometheus.CounterOpts{
			Name: "client_exchange_rejoins_total",
			Help: "Joins of conversations after their first, because a stream broke or a server said goodbye.",
		}),
	}
}
