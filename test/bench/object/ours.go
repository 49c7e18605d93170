package object

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet"
	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// newTelemetry is our client's, with metrics and with spans that are exported.
var newTelemetry = sync.OnceValues(func() (*telemetry.Telemetry, error) {
	cfg, err := config.Defaults[telemetry.Config]()
	if err != nil {
		return nil, err
	}
	cfg.LogLevel = slog.LevelWarn // As for a command.
	t := telemetry.New(telemetry.Identity{Namespace: quartet.Identity.Namespace(), Service: quartet.Identity.Component("client"), Version: "bench"}, cfg, os.Stderr)
	otel.SetErrorHandler(t.ErrorHandler())    //nolint:forbidigo // This process is a program.
	t.Export(context.Background(), os.Getenv) //nolint:forbidigo // As above.
	return t, nil
})

// oursClient calls through client/object, over a connection as the client's program makes it.
type oursClient struct {
	conns  []*grpc.ClientConn
	caller *object.Client

	mu       sync.Mutex
	uploaded []string
}

func newOursClient(ctx context.Context, address string, connections int) (*oursClient, error) {
	t, err := newTelemetry()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Defaults[rpc.ClientConfig]()
	if err != nil {
		return nil, err
	}
	services := []protoreflect.ServiceDescriptor{quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")}
	c, spread := &oursClient{}, []grpc.ClientConnInterface{}
	for range connections {
		conn, err := rpc.NewClient(cfg, t, address, services)
		if err != nil {
			return nil, err
		}
		c.conns, spread = append(c.conns, conn), append(spread, conn)
		if err := rpc.WaitReady(ctx, conn, nil); err != nil {
			return nil, err
		}
	}
	// The metrics of transfers can be registered once, and this process makes a client for each slice.
	own := *t
	own.Metrics = prometheus.NewRegistry()
	c.caller = object.NewClient(spreadOver(spread...), object.Options{Telemetry: &own})
	return c, nil
}

func (c *oursClient) close() {
	for _, conn := range c.conns {
		_ = conn.Close() // It fails only if it is closed already.
	}
}

func contentName(size int64) string { return fmt.Sprintf("content-%d", size) }

// prepare makes sure that there is something to download.
func (c *oursClient) prepare(ctx context.Context, job Job) error {
	if job.Upload {
		return nil
	}
	name := contentName(job.Bytes)
	_, err := c.caller.Get(ctx, name)
	if status.Code(err) != codes.NotFound {
		return err
	}
	_, err = c.caller.Upload(ctx, name, newContent(job.Bytes), object.UploadOptions{Size: job.Bytes})
	return err
}

// download is always checked, chunk by chunk and as a whole; with job.Check once more, to be
// compared.
func (c *oursClient) download(ctx context.Context, job Job) (Sum, error) {
	got := &sink{check: job.Check}
	_, err := c.caller.Download(ctx, contentName(job.Bytes), got, object.DownloadOptions{})
	return got.Sum, err
}

func (c *oursClient) upload(ctx context.Context, job Job) (Sum, error) {
	object, err := c.caller.Upload(
		ctx, c.newName(), newContent(job.Bytes), object.UploadOptions{Size: job.Bytes},
	)
	sum := Sum{Bytes: int64(object.GetSizeBytes())}
	if job.Check {
		sum.CRC = object.GetCrc32C()
	}
	return sum, err
}

func (c *oursClient) newName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("upload-%p-%d", c, len(c.uploaded))
	c.uploaded = append(c.uploaded, name)
	return name
}

func (c *oursClient) clean(ctx context.Context) error {
	var problems []error
	for _, name := range c.uploaded {
		problems = append(problems, c.caller.Delete(ctx, name, object.DeleteOptions{AllowMissing: true}))
	}
	c.uploaded = nil
	return errors.Join(problems...)
}
