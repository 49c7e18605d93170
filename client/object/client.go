// Package object calls ObjectService with deadlines, retries and checks, and resumes transfers
// after a break. There is one file per RPC, named as the server's, and beside them what the command
// line makes of it: a file per command, and this service's part of the steady traffic.
package object

import (
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Options change how calls are made. The zero value is what most programs want.
type Options struct {
	// ChunkBytes is how much one message of an upload carries, 1 MiB if 0. A message has to stay
	// below the 4 MiB that servers accept by default.
	ChunkBytes int
	// WindowBytes is how much of a source that cannot be read twice is kept for a resume, 32 MiB if
	// 0. A multiple of the server's parts (8 MiB) makes no small ones.
	WindowBytes int
	// WriteTimeout is how long the writer of a download may take for 1 MiB before the stream is
	// cancelled, 20 s if 0. The download goes on in another stream once the writer has taken what was
	// received: a stream that is not read for longer would cost the connection, and with it the calls
	// of others. It has to be shorter than the servers' RPC_SEND_TIMEOUT.
	WriteTimeout time.Duration
	// Resumption is how transfers that break are continued. Its Retriable, OnResume and Log are set
	// by the client.
	Resumption rpc.Resumption
	// Telemetry takes the metrics of transfers, for one Client, the spans that stand above their
	// attempts, and log lines of resumes and of the ends of transfers. There are none if it is nil.
	Telemetry *telemetry.Telemetry
}

// Client calls ObjectService. It is safe for concurrent use.
type Client struct {
	objects quartetv1.ObjectServiceClient
	options Options
	// metrics are those of whole transfers.
	metrics *metrics
	// chunks are the buffers of uploads, of ChunkBytes each.
	chunks *bulk.Pool
}

// NewClient makes a client from a connection, for which rpc.NewClient has to know the service.
func NewClient(conn grpc.ClientConnInterface, options Options) *Client {
	if options.ChunkBytes == 0 {
		options.ChunkBytes = 1 << 20
	}
	if options.WindowBytes == 0 {
		options.WindowBytes = 32 << 20
	}
	if options.WriteTimeout == 0 {
		options.WriteTimeout = 20 * time.Second
	}
	if options.Telemetry == nil {
		options.Telemetry = telemetry.Discard()
	}
	options.Resumption.Log = options.Telemetry.Log
	return &Client{
		objects: quartetv1.NewObjectServiceClient(conn),
		options: options,
		metrics: newMetrics(options.Telemetry.Metrics),
		chunks:  bulk.NewPool(options.ChunkBytes),
	}
}

// resumption is that of one transfer, whose observer decides on errors and counts resumes.
func (c *Client) resumption(o *observer) rpc.Resumption {
	r := c.options.Resumption
	r.Retriable, r.OnResume = o.retriable, o.resuming
	return r
}
