// Package echo calls EchoService, the smallest service that shows all four modes: one file per RPC,
// named as the server's, to be read first and copied. Beside them stand its commands and its part
// of the steady traffic.
package echo

import (
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Options change how calls are made. The zero value is what most programs want.
type Options struct {
	// Resumption is how streams that break are continued. Its Log is set by the client.
	Resumption rpc.Resumption
	// Telemetry takes log lines of resumes. They go nowhere if it is nil.
	Telemetry *telemetry.Telemetry
}

// Client calls EchoService. It is safe for concurrent use.
type Client struct {
	echo       quartetv1.EchoServiceClient
	resumption rpc.Resumption
}

// NewClient makes a client from a connection, for which rpc.NewClient has to know the service.
func NewClient(conn grpc.ClientConnInterface, options Options) *Client {
	if options.Telemetry != nil {
		options.Resumption.Log = options.Telemetry.Log
	}
	return &Client{echo: quartetv1.NewEchoServiceClient(conn), resumption: options.Resumption}
}
