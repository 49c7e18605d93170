package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"text/tabwriter"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// Signalled returns a context that ends with the first SIGINT or SIGTERM. A second one kills the
// process.
func Signalled() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// stop gives both signals back their default action, which is to end the process at once.
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// PrintVariables writes a table of the variables of groups.
func PrintVariables(w io.Writer, id Identity, groups ...config.Group) {
	// The columns are the name, the default and the description.
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range config.Usage(id.EnvironmentPrefix(), groups...) {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Name, v.Default, v.Description)
	}
	_ = table.Flush() // It fails only if w does.
}

// Process is what a server and a client that runs in Kubernetes have in common: probes, metrics,
// work, and the drain. Serve runs it until its context is done.
type Process struct {
	Config    Config
	Telemetry *telemetry.Telemetry
	// SetReady is called with true when the process is ready for work, and with false when the
	// drain begins.
	SetReady func(bool)
	// ServeProbes answers the kubelet.
	ServeProbes func(context.Context, net.Listener) error
	// Draining, if not nil, is closed when the process is unready and its clients have had time to
	// notice.
	Draining chan struct{}
	// Run does the work, each under its name in the log, until its context is done, which is when the
	// drain is over.
	Run map[string]func(context.Context) error
	// EndWork lets the work under way end, until ctx is done, and then cuts it.
	EndWork func(ctx context.Context) error
	// Close closes what is named, all at the same time.
	// The connections to backends are an example. All are closed when EndWork has returned.
	Close []Closer
	// Listening are further addresses to log beside those of the probes and the metrics.
	// They alternate: name, value.
	Listening []any
}

// Closer is something to close when the work is over.
type Closer struct {
	Name  string
	Close func(context.Context) error
}

// Listeners are the ports that every process has; Profile is nil if there is none.
type Listeners struct{ Probe, HTTP, Profile net.Listener }

// Listen opens the listeners, which a program does before anything else, so that a port that is
// taken is known before a backend is touched. prefix is that of the variables, for errors. What was
// opened is in l also on failure: the caller closes it.
func (c Config) Listen(ctx context.Context, prefix string) (l Listeners, err error) {
	var probe, http, profile error
	l.Probe, probe = Listen(ctx, prefix+"PROBE_ADDRESS", c.ProbeAddress)
	l.HTTP, http = Listen(ctx, prefix+"HTTP_ADDRESS", c.HTTPAddress)
	if c.ProfileAddress != "" {
		l.Profile, profile = Listen(ctx, prefix+"PROFILE_ADDRESS", c.ProfileAddress)
	}
	// All ports that are taken are reported at once.
	return l, errors.Join(probe, http, profile)
}

// Listen opens a TCP listener; variable is the one that has the address.
func Listen(ctx context.Context, variable string, address config.Address) (net.Listener, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", string(address))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return lis, nil
}

// Close closes the listeners that were opened, of a process that never came to Serve.
func (l Listeners) Close() {
	for _, lis := range []net.Listener{l.Probe, l.HTTP, l.Profile} {
		if lis != nil {
			_ = lis.Close() // It served nothing.
		}
	}
}

// Serve runs the process until ctx is done or a part of it fails, and drains it.
func (p *Process) Serve(ctx context.Context, l Listeners) error {
	// These run until the drain is over: the kubelet and Prometheus are answered during it, too.
	parts := []part{
		{"probe", func(ctx context.Context) error { return p.ServeProbes(ctx, l.Probe) }},
		serveHTTP(
			"http",
			l.HTTP,
			p.Telemetry.MetricsHandler(),
			metricsTimes,
			p.Config.Drain.stopping(),
			p.Telemetry.Log,
		),
	}
	listening := []any{"probe", l.Probe.Addr().String(), "http", l.HTTP.Addr().String()}
	if l.Profile != nil {
		parts = append(
			parts,
			serveHTTP(
				"profile",
				l.Profile,
				telemetry.ProfileHandler(),
				profileTimes,
				p.Config.Drain.stopping(),
				p.Telemetry.Log,
			),
		)
		listening = append(listening, "profile", l.Profile.Addr().String())
	}
	for name, run := range p.Run {
		parts = append(parts, part{name, run})
	}
	drain := p.drain()
	names := make([]string, len(drain))
	for i, s := range drain {
		names[i] = s.name
	}
	p.Telemetry.SetDrain(p.Config.Drain.Budget, names...)
	p.Telemetry.Log.Info("listening", append(listening, p.Listening...)...)
	return run(
		ctx,
		p.Telemetry.Log,
		parts,
		p.Config.Drain.Budget,
		p.Config.Drain.stopping(),
		drain,
		p.Telemetry.FailDrain,
	)
}

// drain lists the steps in which the process stops: it gets no new work, the work under way ends,
// and each resource is closed after its users. The metrics stay readable until the end.
func (p *Process) drain() []step {
	cfg := p.Config.Drain
	return []step{
		// Health checks fail from here on. The process still accepts calls: clients and endpoints learn
		// only during the delay that it is about to stop.
		{"unready", cfg.Delay, func(ctx context.Context) error {
			p.Telemetry.BeginDrain()
			p.SetReady(false)
			_ = rpc.Sleep(ctx, cfg.Delay) // Its deadline is the same.
			// Streams end now, in a way that tells their clients to resume at another replica.
			if p.Draining != nil {
				close(p.Draining)
			}
			return nil
		}},
		{"work", cfg.calls(), p.EndWork},
		// Each Closer has the time of backends(); lateness is for one that ignores its deadline.
		{"close", cfg.backends() + lateness, p.closeAll},
		{"last scrape", cfg.ScrapeWait, func(ctx context.Context) error {
			p.Telemetry.AwaitScrape(ctx, cfg.ScrapeWait)
			return nil
		}},
		// After this no span and no metric is exported, so that it is the last step.
		{"telemetry", cfg.export(), func(ctx context.Context) error {
			if err := p.Telemetry.Shutdown(ctx); err != nil {
				p.Telemetry.Log.Warn("the last of traces and metrics is not exported", "error", err)
			}
			return nil // A collector that is down does not make a clean stop a failure.
		}},
	}
}

// closeAll closes everything at the same time, so that one Closer that hangs takes no time from the
// others.
func (p *Process) closeAll(ctx context.Context) error {
	// Each goroutine writes an element of its own, so that no lock is needed.
	failures := make([]error, len(p.Close))
	var closing sync.WaitGroup
	for i, c := range p.Close {
		closing.Go(func() {
			if err := (step{c.Name, p.Config.Drain.backends(), c.Close}).take(ctx); err != nil {
				// A Closer that fails is named, and does not keep the others from closing.
				failures[i] = fmt.Errorf("%s: %w", c.Name, err)
			}
		})
	}
	closing.Wait()
	return errors.Join(failures...)
}
