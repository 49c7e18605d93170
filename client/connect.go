package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"

	"example.com/quartet/client/call"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// flushTime bounds how long the end of the program is held up by a trace collector.
const flushTime = 2 * time.Second

// newTelemetry makes what the program says of itself. OpenTelemetry knows its error handler only as a process-wide one.
func (a *app) newTelemetry(ctx context.Context) (*telemetry.Telemetry, error) {
	t, err := telemetry.New(ctx, "quartet-client", version, a.config.Telemetry, config.HasCollector(a.environ), a.stderr)
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(t.ErrorHandler())
	return t, nil
}

// connections lead to the two services, which may be on different servers. Nothing is dialled before it is needed.
type connections struct {
	objects, channels *grpc.ClientConn
}

func dial(cfg Config, t *telemetry.Telemetry) (*connections, error) {
	objects, err := rpc.NewClient(cfg.RPC, t, cfg.objectsTarget(),
		quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService"))
	if err != nil {
		return nil, usageError{err}
	}
	channels, err := rpc.NewClient(cfg.RPC, t, cfg.channelsTarget(),
		quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService"))
	if err != nil {
		return nil, usageError{errors.Join(err, objects.Close())}
	}
	return &connections{objects, channels}, nil
}

func (c *connections) close() error { return errors.Join(c.objects.Close(), c.channels.Close()) }

func (c *connections) caller(t *telemetry.Telemetry) *call.Client {
	return call.New(c.objects, c.channels, call.Options{Tracer: t.Tracer, Registerer: t.Registry, Log: t.Log})
}

// withObjects does something that needs the ObjectService, once it is there.
func (a *app) withObjects(ctx context.Context, do func(*call.Client) error) error {
	return a.with(ctx, func(c *connections) []*grpc.ClientConn { return []*grpc.ClientConn{c.objects} }, do)
}

// withChannels does something that needs the ChannelService, once it is there.
func (a *app) withChannels(ctx context.Context, do func(*call.Client) error) error {
	return a.with(ctx, func(c *connections) []*grpc.ClientConn { return []*grpc.ClientConn{c.channels} }, do)
}

// withBoth does something that needs both services, once they are there.
func (a *app) withBoth(ctx context.Context, do func(*call.Client) error) error {
	return a.with(ctx, func(c *connections) []*grpc.ClientConn { return []*grpc.ClientConn{c.objects, c.channels} }, do)
}

// with waits until the services answer grpc.health.v1 with SERVING, which is what makes a connection ready.
func (a *app) with(ctx context.Context, services func(*connections) []*grpc.ClientConn, do func(*call.Client) error) error {
	t, err := a.newTelemetry(ctx)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		_ = t.Shutdown(flush) // What was asked for is done, whether or not its trace arrives.
	}()
	conns, err := dial(a.config, a.callTelemetry(t))
	if err != nil {
		return err
	}
	defer conns.close()
	for _, conn := range services(conns) {
		if err := rpc.WaitReady(ctx, conn, func() { a.note("waiting for server at %s", conn.Target()) }); err != nil {
			return a.ended(ctx, err)
		}
	}
	return a.ended(ctx, do(conns.caller(t)))
}

// callTelemetry is telemetry without a log line for each call that failed, unless somebody chose a level: the error of
// the command says it already, and resumes are told by the one who resumes.
func (a *app) callTelemetry(t *telemetry.Telemetry) *telemetry.Telemetry {
	if config.Lookup(a.environ, "QUARTET_LOG_LEVEL") != "" {
		return t
	}
	silent := *t
	silent.Log = slog.New(slog.DiscardHandler)
	return &silent
}
