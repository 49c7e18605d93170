// The server keeps objects and carries channels: it answers quartet.v1.ObjectService and quartet.v1.ChannelService.
// This file assembles it; the methods are in files of their names, what they do is in the packages object and channel.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/lifecycle"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/transfer"
	"example.com/quartet/server/channel"
	"example.com/quartet/server/object"
)

// version is stamped by the build.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters. It returns the exit status: 0 after a clean stop, 1 when something
// failed, 2 for a wrong command line or configuration.
func run(arguments, environ []string, stdout, stderr io.Writer) int {
	switch {
	case len(arguments) == 1 && arguments[0] == "--version":
		fmt.Fprintln(stdout, version)
		return 0
	case len(arguments) == 1 && (arguments[0] == "--help" || arguments[0] == "-h"):
		usage(stdout)
		return 0
	case len(arguments) > 0:
		fmt.Fprintf(stderr, "unexpected arguments %q: the server is configured by its environment, see --help\n", arguments)
		return 2
	}
	cfg, err := config.Load[Config](environ)
	if err != nil {
		fmt.Fprintf(stderr, "configuration:\n%v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // A second signal kills.
	if err := serve(ctx, cfg, config.HasCollector(environ), stderr); err != nil {
		return 1
	}
	return 0
}

func usage(w io.Writer) {
	fmt.Fprint(w, "server answers quartet.v1.ObjectService and quartet.v1.ChannelService until SIGTERM.\n\n"+
		"It takes no arguments but --help and --version, and is configured by its environment:\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range config.Usage[Config]() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Description)
	}
	_ = table.Flush() // It fails only if w does, which has been told already.
	fmt.Fprint(w, "\nTraces are exported if OTEL_EXPORTER_OTLP_ENDPOINT is set; the other OTEL_ variables hold too.\n")
}

// serve runs the server until ctx is done, and drains it. With otlp it exports traces. Whatever goes wrong is logged.
func serve(ctx context.Context, cfg Config, otlp bool, logTo io.Writer) error {
	tele, err := telemetry.New(ctx, "quartet-server", version, cfg.Telemetry, otlp, logTo)
	if err != nil {
		fmt.Fprintln(logTo, err)
		return err
	}
	otel.SetErrorHandler(tele.ErrorHandler())
	s, err := open(ctx, cfg, tele)
	if err == nil {
		s.ready()
		drain := s.drain()
		tele.SetDrainLimit(lifecycle.Limit(drain))
		err = lifecycle.Run(ctx, tele.Log, s.services(), drain)
	}
	if err != nil {
		tele.Log.Error("server failed", "error", err)
	}
	return err
}

// server is everything that was opened and has to be closed.
type server struct {
	cfg       Config
	telemetry *telemetry.Telemetry
	store     *object.Store
	memory    *memory
	broker    *channel.Broker
	rpc       *rpc.Server
	// draining tells the handlers of open streams that the server is about to stop.
	draining chan struct{}

	grpc, probe, http net.Listener
}

// open opens the listeners first, so that a port that is taken is known before a store is touched.
func open(ctx context.Context, cfg Config, tele *telemetry.Telemetry) (s *server, err error) {
	cfg.fitMemory()
	s = &server{cfg: cfg, telemetry: tele, draining: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.listen(ctx); err != nil {
		return s, err
	}
	url, err := cfg.objectsURL()
	if err != nil {
		return s, err
	}
	if s.store, err = object.Open(ctx, url, cfg.objectOptions(tele)); err != nil {
		return s, fmt.Errorf("open objects: %w", err)
	}
	if s.broker, err = channel.Open(ctx, cfg.Channels.URL, cfg.channelOptions(tele)); err != nil {
		return s, fmt.Errorf("open channels: %w", err)
	}
	if s.memory, err = newMemory(cfg, s.store.WriterBytes(), tele.Registry); err != nil {
		return s, err
	}
	if s.rpc, err = rpc.NewServer(cfg.RPC, tele, errorTable, s.register, grpc.ForceServerCodecV2(transfer.Codec{})); err != nil {
		return s, err
	}
	return s, errors.Join(s.store.Check(ctx), s.broker.Check(ctx))
}

func (s *server) listen(ctx context.Context) error {
	var problems []error
	for _, l := range []struct {
		listener *net.Listener
		address  string
	}{{&s.grpc, s.cfg.GRPCAddress}, {&s.probe, s.cfg.ProbeAddress}, {&s.http, s.cfg.HTTPAddress}} {
		var err error
		*l.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", l.address)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// close undoes an open that came only halfway.
func (s *server) close() {
	for _, l := range []net.Listener{s.grpc, s.probe, s.http} {
		if l != nil {
			_ = l.Close()
		}
	}
	if s.broker != nil {
		_ = s.broker.Close(context.Background())
	}
	if s.store != nil {
		_ = s.store.Close()
	}
}

func (s *server) register(r grpc.ServiceRegistrar) {
	quartetv1.RegisterObjectServiceServer(r, &objectService{
		store:       s.store,
		draining:    s.draining,
		memory:      s.memory,
		idleTimeout: s.cfg.Objects.IdleTimeout,
	})
	quartetv1.RegisterChannelServiceServer(r, &channelService{broker: s.broker, tracer: s.telemetry.Tracer, draining: s.draining})
}

func (s *server) services() []lifecycle.Service {
	return []lifecycle.Service{
		{Name: "grpc", Run: func(context.Context) error { return s.rpc.Serve(s.grpc) }},
		{Name: "probe", Run: func(ctx context.Context) error { return s.rpc.Health().ServeProbes(ctx, s.probe) }},
		lifecycle.HTTP("http", s.http, s.telemetry.Mux()),
		{Name: "housekeeping", Run: s.keepHouse},
		{Name: "backends", Run: func(ctx context.Context) error { return s.watchBackends(ctx, askInterval) }},
	}
}

// ready says that calls may come. The listeners take connections already.
func (s *server) ready() {
	s.rpc.Health().SetServing(true)
	s.telemetry.Log.Info("listening", "version", version,
		"grpc", s.grpc.Addr().String(), "probe", s.probe.Addr().String(), "http", s.http.Addr().String())
}

// drain is how the server stops: nobody new comes, those who are there are told, and each thing closes after what uses
// it. The metrics stay readable until the end.
func (s *server) drain() []lifecycle.Step {
	const short = 5 * time.Second
	cfg := s.cfg.Drain
	return []lifecycle.Step{
		{Name: "unready", Timeout: cfg.Delay + short, Do: func(ctx context.Context) error {
			s.telemetry.BeginDrain()
			s.rpc.Health().SetServing(false)
			lifecycle.Sleep(ctx, cfg.Delay)
			return nil
		}},
		{Name: "tell streams", Timeout: short, Do: func(context.Context) error {
			close(s.draining)
			return nil
		}},
		{Name: "calls", Timeout: cfg.Timeout, Do: func(ctx context.Context) error {
			if err := s.rpc.GracefulStop(ctx); err != nil {
				// No failure of the server: its callers resume what was cut.
				s.telemetry.Log.Warn("calls under way at the deadline of the drain", "error", err)
			}
			return nil
		}},
		{Name: "channels", Timeout: short, Do: s.broker.Close},
		{Name: "objects", Timeout: short, Do: func(context.Context) error { return s.store.Close() }},
		{Name: "last scrape", Timeout: cfg.ScrapeWait + short, Do: func(ctx context.Context) error {
			s.telemetry.AwaitScrape(ctx, cfg.ScrapeWait)
			return nil
		}},
		{Name: "traces", Timeout: short, Do: s.telemetry.Shutdown},
	}
}
