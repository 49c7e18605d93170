package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
)

// serve is the name of the command that runs as a service.
const serve = "serve"

// serveCommand makes the command "serve".
func (c *command) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   serve,
		Short: "Keep steady traffic going, and verify every answer",
		Long: fmt.Sprintf(
			`Runs until SIGTERM. Keeps steady traffic going against the servers, verifies every answer, and counts the good and
the bad in /metrics as %s_traffic_operations_total. The kubelet's probes and /metrics have a port of their own
each. It is all configured by the environment, see %s help environment.`,
			c.Identity.Namespace(),
			c.typed,
		),
		Example: fmt.Sprintf("  %s serve\n  curl localhost:9465/metrics", c.typed),
		Args:    Positional(0, 0),
		RunE:    c.do(func(ctx context.Context, _ []string) error { return c.serve(ctx) }),
	}
}

// serve runs the client as a long-running process.
func (c *command) serve(ctx context.Context) (err error) {
	t := c.newTelemetry(ctx)
	var conns connections
	var page *webConsole
	started := false
	// Until Process.Serve has taken them over, an error has to close what is open already.
	defer func() {
		if !started { // Otherwise the drain does it.
			if page != nil {
				_ = page.listener.Close()
			}
			_ = conns.close() // They served nothing.
			flush(ctx, t)
		}
	}()
	// The connections have to know of the console before they are made.
	peers, opts := c.consolePeers()
	if conns, err = c.connect(c.Services, t, opts...); err != nil {
		return err
	}
	connected, err := c.connected(c.Services, conns, t)
	if err != nil {
		return err
	}
	// The ports are opened before the traffic is made, so that one that is taken stops the start.
	listeners, err := c.config.Process.Listen(ctx, c.Identity.EnvironmentPrefix())
	if err != nil {
		listeners.Close()
		return err
	}
	if page, err = c.openConsole(ctx, conns, peers, t); err != nil {
		listeners.Close()
		return err
	}
	s := &service{
		telemetry:   t,
		connections: conns,
		probes:      rpc.NewProbes(),
		worked:      make(chan struct{}),
	}
	sources, err := c.sources(s, connected)
	if err != nil {
		listeners.Close()
		return usageError{err}
	}
	s.traffic = traffic.New(traffic.Options{
		Timeout: c.config.Timeout, Registerer: t.Metrics, Log: t.Log, OnReady: s.ready,
	}, sources...)
	// WithoutCancel: the signal begins the drain, and only its step "work" stops the traffic.
	s.working, s.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	p := &app.Process{
		Config:      c.config.Process,
		Telemetry:   t,
		SetReady:    s.probes.SetReady,
		ServeProbes: s.probes.Serve,
		Run: map[string]func(context.Context) error{
			"traffic": func(context.Context) error { return s.work() },
		},
		// The traffic ends in the step "work" of the drain, and the connections close after it.
		EndWork: s.endWork,
		Close: []app.Closer{
			{Name: "connections", Close: func(context.Context) error { return conns.close() }},
		},
		Listening: []any{"version", c.Version},
	}
	if page != nil {
		p.Run["console"] = func(ctx context.Context) error { return page.Serve(ctx, page.listener) }
		p.Listening = append(p.Listening, "console", page.listener.Addr().String())
		// Calls from the page and the traffic end at the same time, within the same step.
		p.EndWork = func(ctx context.Context) error {
			var ending sync.WaitGroup
			defer ending.Wait()
			ending.Go(func() { page.end(ctx) })
			return s.endWork(ctx)
		}
	}
	started = true
	return p.Serve(ctx, listeners)
}

// sources are the traffic of all services, each of which waits for its own server. There is one of
// each connection beside them, since a server that no traffic goes to has to be there too.
func (c *command) sources(s *service, connected []Connection) (all []traffic.Source, err error) {
	for _, conn := range s.connections {
		// Services that share a connection wait together, and are logged once. All sources call await at
		// the same time; OnceFunc has the others wait for the first.
		await := sync.OnceFunc(func() { s.await(conn) })
		// This source has no operations. It makes OnReady wait for the server.
		all = append(all, traffic.Source{Await: func(context.Context) { await() }})
		for i, service := range c.Services {
			if service.Traffic != nil && c.config.target(service) == conn.target {
				source := service.Traffic(connected[i])
				if err := service.validateTraffic(source); err != nil {
					return nil, err
				}
				source.Await = func(context.Context) { await() }
				all = append(all, source)
			}
		}
	}
	return all, nil
}

// service is the client as a long-running process.
type service struct {
	telemetry   *telemetry.Telemetry
	connections connections
	traffic     *traffic.Traffic
	probes      *rpc.Probes

	// working is the traffic's context, which ends when a drain comes to it; worked is closed when it
	// has ended.
	working  context.Context
	stopWork context.CancelFunc
	worked   chan struct{}
}

// work makes the traffic until endWork stops it. It is a part of the process.
func (s *service) work() error {
	defer close(s.worked)
	return s.traffic.Run(s.working)
}

// await waits for the server of a connection, until the work ends.
func (s *service) await(conn connection) {
	err := rpc.WaitReady(s.working, conn.ClientConn, func(reason string) {
		s.telemetry.Log.Warn("waiting for server", "target", conn.Target(), "reason", conn.naming(reason))
	})
	if err != nil && s.working.Err() == nil {
		s.telemetry.Log.Error("waiting for server", "target", conn.Target(), "error", err)
	}
}

// ready is called once all servers are there and have what the traffic needs. The client stays
// ready when servers go away later, since its own ports still answer.
func (s *service) ready() {
	s.probes.SetReady(true)
	s.telemetry.Log.Info("ready")
}

// endWork stops the traffic, and cuts the operations that do not end in time, or whose servers are
// not there to end them. That is no failure of the client: a download may take as long as its
// timeout, and servers that are uninstalled together with the client may end first.
func (s *service) endWork(ctx context.Context) error {
	// No new operation begins from here on.
	s.stopWork()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// It has room for the value, so that the goroutine ends also when nothing reads it.
	awaitNoServer := make(chan string, 1)
	go func() { awaitNoServer <- s.awaitNoServer(ctx) }()
	select {
	case <-s.worked:
		return nil
	case why := <-awaitNoServer:
		s.telemetry.Log.Warn("operations under way are cut", "because", why)
	}
	s.traffic.Cut()
	<-s.worked
	return nil
}

// absence is how long servers may be away before operations are given up: longer than a client
// needs to reach the next replica when one of several ends. A server that drains at the same time
// counts as away too; by then it has nearly always ended the operations of this client.
const absence = 2 * time.Second

// awaitNoServer returns the reason when operations under way cannot succeed any more: no target has
// a server that takes calls, or ctx is done. While one target has one, operations on it may
// succeed, and those of the other targets wait too.
func (s *service) awaitNoServer(ctx context.Context) string {
	var targets sync.WaitGroup
	for _, conn := range s.connections {
		// All targets are waited for at the same time, since each has to be absent for a while.
		targets.Go(
			func() { _ = rpc.WaitGone(ctx, conn.ClientConn, absence) },
		) // Its error is that of ctx.
	}
	targets.Wait()
	if ctx.Err() != nil {
		return "out of time"
	}
	return "servers are gone"
}
