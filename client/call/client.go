// Package call calls Quartet's services well: with deadlines, retries and checks, and with transfers and conversations
// that go on after a break as if nothing had happened. One file per RPC, named as the server's.
//
// Calls of one answer are retried by gRPC itself, by a policy that internal/rpc computes from the contract. Streams are
// resumed here, because gRPC cannot: it does not know where a stream was cut.
package call

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/transfer"
)

// Options change how calls are made. The zero value is what most programs want.
type Options struct {
	// ChunkBytes is how much one message of an upload carries, 1 MiB if 0. A message has to stay below the 4 MiB
	// that servers accept by default.
	ChunkBytes int
	// WindowBytes is how much of a source that cannot be read twice is kept for a resume, 32 MiB if 0. A multiple of the
	// server's parts (8 MiB) makes no small ones.
	WindowBytes int
	// StallTimeout cuts a stream that should be moving and is not, 30 s if 0; the resume starts from there.
	StallTimeout time.Duration
	// MaxTries bounds the attempts in a row that bring nothing new, 10 if 0. Any progress starts the count again. Those
	// that a busy server refuses are not counted: it says when to come back, and only the context bounds how often.
	MaxTries int
	// RetryDelay is the pause before the first of those attempts, 100 ms if 0. It grows up to 5 s.
	RetryDelay time.Duration
	// Tracer makes the spans that stand above the attempts of a transfer, and those of messages, none if nil.
	Tracer trace.Tracer
	// Registerer takes the metrics of transfers and conversations, and can do so for one Client; they are registered
	// nowhere if nil.
	Registerer prometheus.Registerer
	// Log is told of resumes and of the ends of transfers, nothing if nil.
	Log *slog.Logger
}

// Client calls the two services. It is safe for concurrent use.
type Client struct {
	objects  quartetv1.ObjectServiceClient
	channels quartetv1.ChannelServiceClient
	options  Options
	metrics  *metrics
	chunks   *transfer.Pool // of uploads
}

// New makes a client from a connection to each service; they may be one and the same.
func New(objects, channels grpc.ClientConnInterface, options Options) *Client {
	if options.ChunkBytes == 0 {
		options.ChunkBytes = 1 << 20
	}
	if options.WindowBytes == 0 {
		options.WindowBytes = 32 << 20
	}
	if options.StallTimeout == 0 {
		options.StallTimeout = 30 * time.Second
	}
	if options.MaxTries == 0 {
		options.MaxTries = 10
	}
	if options.RetryDelay == 0 {
		options.RetryDelay = 100 * time.Millisecond
	}
	if options.Tracer == nil {
		options.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		objects:  quartetv1.NewObjectServiceClient(objects),
		channels: quartetv1.NewChannelServiceClient(channels),
		options:  options,
		metrics:  newMetrics(options.Registerer),
		chunks:   transfer.NewPool(options.ChunkBytes),
	}
}
