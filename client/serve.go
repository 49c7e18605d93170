package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"example.com/quartet/client/workload"
	"example.com/quartet/internal/lifecycle"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Keep steady traffic going, and judge it",
		Long: `Runs until SIGTERM. Keeps steady traffic in the four modes going against the servers, verifies every answer, and
counts the good and the bad in /metrics as quartet_workload_operations_total. The kubelet's probes and /metrics
have a port of their own each. It is all configured by the environment, see quartet --help.`,
		Example: `  quartet serve
  QUARTET_WORKLOAD_LOOKUPS=100 QUARTET_WORKLOAD_MESSAGES=0 quartet serve
  curl localhost:9465/metrics`,
		Args: positional(0, 0),
		RunE: a.command(func(ctx context.Context, _ []string) error { return a.serve(ctx) }),
	}
}

// serve puts the parts together; the order in which they end is that of drain.
func (a *app) serve(ctx context.Context) error {
	t, err := a.newTelemetry(ctx)
	if err != nil {
		return err
	}
	instance, err := a.config.instance()
	if err != nil {
		return err
	}
	conns, err := dial(a.config, t)
	if err != nil {
		return err
	}
	s := &service{
		config:      a.config,
		telemetry:   t,
		connections: conns,
		workload:    workload.New(conns.caller(t), a.config.Workload, t.Registry, t.Log, instance),
		probes:      rpc.NewProbes(),
		worked:      make(chan struct{}),
	}
	s.working, s.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	return s.run(ctx)
}

// service is the client as a long-running process.
type service struct {
	config      Config
	telemetry   *telemetry.Telemetry
	connections *connections
	workload    *workload.Workload
	probes      *rpc.Probes

	// working is the workload's context, which ends when a drain comes to it; worked is closed when it has ended.
	working  context.Context
	stopWork context.CancelFunc
	worked   chan struct{}
}

func (s *service) run(ctx context.Context) error {
	var config net.ListenConfig
	http, err := config.Listen(ctx, "tcp", s.config.HTTPAddress)
	if err != nil {
		return fmt.Errorf("QUARTET_HTTP_ADDRESS: %w", err)
	}
	probe, err := config.Listen(ctx, "tcp", s.config.ProbeAddress)
	if err != nil {
		return fmt.Errorf("QUARTET_PROBE_ADDRESS: %w", err)
	}
	s.telemetry.Log.Info("listening", "http", http.Addr().String(), "probe", probe.Addr().String(), "version", version)
	drain := s.drain()
	s.telemetry.SetDrainLimit(lifecycle.Limit(drain))
	return lifecycle.Run(ctx, s.telemetry.Log, []lifecycle.Service{
		lifecycle.HTTP("http", http, s.telemetry.Mux()),
		{Name: "probes", Run: func(ctx context.Context) error { return s.probes.Serve(ctx, probe) }},
		{Name: "workload", Run: func(context.Context) error { return s.work() }},
	}, drain)
}

// work is ready once the servers are there and have what the workload looks for. Servers that go away later make it no
// less ready: what the client serves itself it serves still.
func (s *service) work() error {
	defer close(s.worked)
	for _, conn := range []*grpc.ClientConn{s.connections.objects, s.connections.channels} {
		if err := s.await(conn); err != nil {
			return s.unlessStopped(err)
		}
	}
	if err := s.setUp(); err != nil {
		return s.unlessStopped(err)
	}
	s.probes.SetReady(true)
	s.telemetry.Log.Info("ready")
	return s.workload.Run(s.working)
}

func (s *service) await(conn *grpc.ClientConn) error {
	return rpc.WaitReady(s.working, conn, func() { s.telemetry.Log.Warn("waiting for server", "target", conn.Target()) })
}

// setUp tries until it succeeds: a server that cannot take an object now may be able to when somebody has seen why.
func (s *service) setUp() error {
	const pause = 2 * time.Second
	for {
		err := s.workload.Setup(s.working)
		if err == nil || s.working.Err() != nil {
			return err
		}
		s.telemetry.Log.Warn("workload not set up, trying again", "error", err, "wait", pause)
		lifecycle.Sleep(s.working, pause)
	}
}

// unlessStopped drops an error that our own stop has caused.
func (s *service) unlessStopped(err error) error {
	if s.working.Err() != nil {
		return nil
	}
	return err
}
