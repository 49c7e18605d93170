package cli

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// webConsole is the console of a process, with where it listens.
type webConsole struct {
	*console.Console
	listener net.Listener
}

// consolePeers returns what counts the connections and calls to each server for the page. Both are
// nil without a console, so that calls of the traffic do not pay for it.
func (c *command) consolePeers() (*console.Peers, []grpc.DialOption) {
	if c.config.Console.Address == "" {
		return nil, nil
	}
	// gRPC tells a stats handler of each call, and which server it went to.
	peers := console.NewPeers()
	return peers, []grpc.DialOption{grpc.WithStatsHandler(peers)}
}

// openConsole listens and shows all services over connections that peers count. It returns nil if
// there is to be no console.
func (c *command) openConsole(
	ctx context.Context,
	conns connections,
	peers *console.Peers,
	t *telemetry.Telemetry,
) (*webConsole, error) {
	if c.config.Console.Address == "" {
		return nil, nil
	}
	options := console.Options{
		Config:    c.config.Console,
		Product:   c.Identity.Name,
		Version:   c.Version,
		Contract:  c.Contract,
		Peers:     peers,
		Telemetry: t,
		// Resumes of calls from the page are logged: the page is gone when an operator looks for them.
		Resumption: rpc.Resumption{Log: t.Log},
	}
	// Panels have clients of their own, which must not register the traffic's metrics twice.
	connected, err := c.connected(c.Services, conns, withoutMetrics(t))
	if err != nil {
		return nil, err
	}
	for i, service := range c.Services {
		conn := conns[conns.index(c.config.target(service))]
		for _, descriptor := range service.Descriptors {
			options.Services = append(
				options.Services,
				console.Service{Descriptor: descriptor, Conn: conn.ClientConn},
			)
		}
		if service.Panel != nil {
			panel, err := service.Panel(connected[i])
			if err != nil {
				return nil, fmt.Errorf("panel of %s: %w", service.Name, err)
			}
			// The name of the service is the panel's place in the addresses of the page.
			panel.Name = service.Name
			options.Panels = append(options.Panels, panel)
		}
	}
	page, err := console.New(options)
	if err != nil {
		return nil, err
	}
	// The port is opened last: what fails above leaves no listener behind.
	lis, err := app.Listen(
		ctx,
		c.Identity.EnvironmentPrefix()+"CONSOLE_ADDRESS",
		c.config.Console.Address,
	)
	if err != nil {
		return nil, err
	}
	return &webConsole{page, lis}, nil
}

// withoutMetrics is telemetry for clients besides those of the traffic, whose metrics exist once in
// a process. The connections count all calls.
func withoutMetrics(t *telemetry.Telemetry) *telemetry.Telemetry {
	// A copy shares the log, the tracer and the counters of calls, which are made already.
	other := *t
	other.Metrics = prometheus.NewRegistry()
	return &other
}

// consoleGrace is how long calls from the console have to end by themselves when a process drains.
const consoleGrace = 2 * time.Second

// end stops the page for new calls, lets open ones end for consoleGrace, and cuts them.
func (w *webConsole) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, consoleGrace)
	defer cancel()
	w.Stop(ctx)
}

// consoleCommand makes the command "console", which serves the page without any traffic.
func (c *command) consoleCommand() *cobra.Command {
	// The default is a free port of the loopback interface, which no other machine reaches.
	address := config.Address("127.0.0.1:0")
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Call any method from a browser",
		Long: fmt.Sprintf(
			`Opens a page for browsers, and says where, until it is interrupted. The page shows every method, has a form for its
messages, and draws what happens to a call. The calls are made from here, with balancing, retries and traces. In serve
the same page is at $%[1]sCONSOLE_ADDRESS; the other variables %[1]sCONSOLE_… hold for both.`,
			c.Identity.EnvironmentPrefix(),
		),
		Example: fmt.Sprintf("  %s console\n  %[1]s console --address localhost:8080", c.typed),
		Args:    Positional(0, 0),
	}
	var listen string
	cmd.Flags().StringVar(
		&listen,
		"address",
		string(address),
		"where the page is, `host:port`; port 0 is a free one",
	)
	cmd.RunE = c.do(func(ctx context.Context, _ []string) error {
		// The flag is checked as the variable is, whose place it takes.
		if err := address.UnmarshalText([]byte(listen)); err != nil {
			return usageError{fmt.Errorf("--address=%q: %w", listen, err)}
		}
		// openConsole reads it there.
		c.config.Console.Address = address
		return c.runConsole(ctx)
	})
	return cmd
}

// runConsole serves the console until ctx is done.
func (c *command) runConsole(ctx context.Context) error {
	t := c.newTelemetry(ctx)
	defer flush(ctx, t)
	peers, opts := c.consolePeers()
	// The connections last as long as the page, and not as a call.
	conns, err := c.connect(c.Services, t, opts...)
	if err != nil {
		return err
	}
	defer conns.close()
	page, err := c.openConsole(ctx, conns, peers, t)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		conn.Connect() // The page shows whether the servers are there.
	}
	// The address is the result of the command, so it goes to standard output, where scripts read it.
	fmt.Fprintf(c.stdout, "http://%s/\n", page.listener.Addr())
	return page.Serve(ctx, page.listener)
}
