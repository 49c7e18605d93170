package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/web"
)

// Service is what a server asks of each service that it answers.
type Service struct {
	// Name is that of its folder: "customer", lower-case letters and digits. Its variables have it as
	// their prefix, in upper case, and metrics as a label.
	Name string
	// Config points to the struct of its variables, which is filled before Open is called; nil if it
	// has none. No variable may have the name of one of the process.
	Config any
	// Open makes the service ready to answer. An error ends the process with status 1, or with 2 if it
	// is a config.Problem.
	Open func(ctx context.Context, host Host) (Opened, error)
}

// Host is what a process gives to a service.
type Host struct {
	Telemetry *telemetry.Telemetry
	// RPC is the configuration of the server, made after all services are open: a service may lower
	// its limits.
	RPC *rpc.ServerConfig
	// Draining is closed when the process begins to stop: streams that would not end by themselves
	// have to.
	Draining <-chan struct{}
}

// Opened is a service that is ready to answer. All but Service may be left out.
type Opened struct {
	// Service registers the implementation and has the rules for its errors.
	rpc.Service
	// Check asks whether the backend answers, and is nil for a service without one. It is asked once
	// before the server is ready, and every few seconds from then on, for the metric backend_up and
	// the health that clients of this service are told.
	Check func(context.Context) error
	// Work is done beside the calls until ctx is done, which is when the drain begins. It has to
	// return then: Close is called after it.
	Work func(ctx context.Context)
	// Close closes the backend when all calls have ended.
	Close func(context.Context) error
}

// Server is a program that answers services.
type Server struct {
	Identity Identity
	// Version is that of the build, for --version, traces and metrics.
	Version string
	// Services are listed in the server's main; their order is that of the help and of opening.
	Services []Service
}

// component is what the server is called beside the product.
const component = "server"

// serverConfig is what can be set of any server.
type serverConfig struct {
	GRPCAddress config.Address `env:"GRPC_ADDRESS" envDefault:":50051" desc:"where clients call"`
	Process     Config
	RPC         rpc.ServerConfig `envPrefix:"RPC_"`
	Web         web.Config       `envPrefix:"WEB_"`
}

// groups are the variables of the server and of its services.
func (s Server) groups() (*serverConfig, []config.Group) {
	// The defaults of the ports differ between server and client, so they are no tags of Config.
	cfg := &serverConfig{Process: Config{ProbeAddress: ":50052", HTTPAddress: ":9464"}}
	groups := []config.Group{{Into: cfg}}
	for _, service := range s.Services {
		if service.Config != nil {
			groups = append(groups, service.group())
		}
	}
	return cfg, groups
}

// group are the variables of a service that has some.
func (s Service) group() config.Group {
	return config.Group{Prefix: strings.ToUpper(s.Name) + "_", Into: s.Config}
}

// Main is the main function with its surroundings as parameters. It returns the exit status: 0
// after a clean stop, 1 when something failed, 2 for a wrong command line or configuration.
func (s Server) Main(args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := Signalled()
	defer stop()
	return s.main(ctx, args, environ, stdout, stderr)
}

// main is Main with the context that a signal ends, which tests replace.
func (s Server) main(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	// A mistake of the list is one of the program. It shows before any configuration is read.
	if err := s.validate(); err != nil {
		fmt.Fprintf(stderr, "services:\n%v\n", err)
		return 2
	}
	cfg, groups := s.groups()
	switch {
	case len(args) == 2 && args[1] == "--version":
		fmt.Fprintln(stdout, VersionText(s.Identity, component, s.Version))
		return 0
	case len(args) == 2 && (args[1] == "--help" || args[1] == "-h"):
		s.printUsage(stdout, filepath.Base(args[0]), groups)
		return 0
	case len(args) > 1:
		argument, _, _ := strings.Cut(args[1], "=") // What follows may be a secret.
		fmt.Fprintf(
			stderr,
			"unexpected argument %q: the server is configured by its environment, see --help\n",
			config.Masked(argument),
		)
		return 2
	}
	// Own hides the variables of the client, which often share a ConfigMap or a shell with these.
	if err := config.Load(
		s.Identity.EnvironmentPrefix(),
		s.Identity.Own(environ, groups...),
		groups...); err != nil {
		fmt.Fprintf(stderr, "configuration:\n%v\n", err)
		return 2
	}
	// Both settings are process-wide and have to be in force before much memory is allocated.
	cfg.Process.LimitMemory()
	FitBuffers()
	t := NewTelemetry(ctx, s.Identity, component, s.Version, cfg.Process.Telemetry, environ, stderr)
	running, err := s.open(ctx, cfg, t)
	if err == nil {
		err = running.Serve(ctx)
	} else {
		// A process that did not start has spans to export as well, such as those of its backends.
		export, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Process.Drain.export())
		defer cancel()
		_ = t.Shutdown(export) // The error that matters is the one that ended open.
		// A signal while a backend was being opened looks like a failure of the backend. Kubernetes stops
		// a pod of a cancelled rollout in this way, which is a clean stop.
		if ctx.Err() != nil {
			t.Log.Info("stopped before it was ready", "cause", context.Cause(ctx), "error", err)
			return 0
		}
	}
	switch {
	// The kubelet shows the status of the container: 2 tells an operator that no restart will help.
	case config.IsProblem(err):
		t.Log.Error("configuration", "error", err)
		return 2
	case err != nil:
		t.Log.Error("server failed", "error", err)
		return 1
	default:
		return 0
	}
}

// hostNames are the parts of a server that services stand beside under their names.
var hostNames = []string{"backends", "grpc", "http", "probe", "profile", "web"}

// validate finds mistakes in the list of services.
func (s Server) validate() error {
	var problems []error
	known := map[string]bool{}
	for _, service := range s.Services {
		config := reflect.TypeOf(service.Config)
		complain := func(problem string) { problems = append(problems, fmt.Errorf("service %q: %s", service.Name, problem)) }
		if !ServiceName.MatchString(service.Name) {
			complain("its name has to be lower-case letters and digits, a letter first")
		}
		if known[service.Name] || slices.Contains(hostNames, service.Name) {
			complain("another service or a part of the server has its name")
		}
		if service.Open == nil {
			complain("Open is not set")
		}
		if config != nil &&
			// reflect.TypeOf of an interface that holds nothing is nil, which is a service without
			// variables.
			(config.Kind() != reflect.Pointer || config.Elem().Kind() != reflect.Struct ||
				reflect.ValueOf(service.Config).IsNil()) {
			complain("Config has to be a pointer to a struct")
		}
		known[service.Name] = true
	}
	return errors.Join(problems...)
}

// ServiceName matches the names of services: what names of folders and the prefixes of variables
// have in common.
var ServiceName = regexp.MustCompile("^[a-z][a-z0-9]*$")

// printUsage writes the text of --help.
func (s Server) printUsage(w io.Writer, name string, groups []config.Group) {
	names := make([]string, len(s.Services))
	for i, service := range s.Services {
		names[i] = service.Name
	}
	fmt.Fprintf(w, "%s answers the services of %s until SIGTERM: %s.\n\n"+
		"It takes no arguments but --help and --version, and is configured by its environment:\n\n",
		name, s.Identity.Name, strings.Join(names, ", "))
	PrintVariables(w, s.Identity, groups...)
	fmt.Fprintf(w, "\n%s\n", ExportUsage)
}

// Open opens the server inside another program, such as a test. It is configured by environ and
// tells what it does by t.
func (s Server) Open(
	ctx context.Context,
	environ []string,
	t *telemetry.Telemetry,
) (*Running, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	cfg, groups := s.groups()
	if err := config.Load(
		s.Identity.EnvironmentPrefix(),
		s.Identity.Own(environ, groups...),
		groups...); err != nil {
		return nil, err
	}
	return s.open(ctx, cfg, t)
}

// Running is a server that was opened: everything that has to be closed.
type Running struct {
	Server
	config    *serverConfig
	telemetry *telemetry.Telemetry
	listeners Listeners
	// grpc is the port for clients, rpc the server that answers there.
	grpc    net.Listener
	rpc     *rpc.Server
	webPort net.Listener // nil if there is none
	web     *web.Server  // likewise
	// opened are the services in the order of the list, so far as they are open.
	opened []opened
	// draining is Host.Draining: closed when open streams have to end.
	draining chan struct{}
	working  sync.WaitGroup // the work of services, and the watch of their backends
}

// opened is a service under its name.
type opened struct {
	Opened
	name string
}

// open opens the listeners first, so that a port that is taken is known before a backend is
// touched, then the services, and then the gRPC server, whose limits the services may have lowered.
// When it fails it closes what it has opened, without waiting for the end of ctx.
func (s Server) open(
	ctx context.Context,
	cfg *serverConfig,
	t *telemetry.Telemetry,
) (o *Running, err error) {
	o = &Running{Server: s, config: cfg, telemetry: t, draining: make(chan struct{})}
	defer func() {
		if err != nil {
			o.close(context.WithoutCancel(ctx))
		}
	}()
	prefix := s.Identity.EnvironmentPrefix()
	var grpcErr, webErr, otherErr error
	o.grpc, grpcErr = Listen(ctx, prefix+"GRPC_ADDRESS", cfg.GRPCAddress)
	if cfg.Web.Address != "" {
		o.webPort, webErr = Listen(ctx, prefix+"WEB_ADDRESS", cfg.Web.Address)
	}
	o.listeners, otherErr = cfg.Process.Listen(ctx, prefix)
	if err := errors.Join(grpcErr, webErr, otherErr); err != nil {
		return o, err
	}
	var services []rpc.Service
	for _, service := range s.Services {
		one, err := service.Open(ctx, Host{Telemetry: t, RPC: &cfg.RPC, Draining: o.draining})
		if err != nil {
			// The service does not know its prefix, and only the host can write it before the names.
			if service.Config != nil && config.IsProblem(err) {
				return o, config.Complete(prefix, service.group(), err)
			}
			return o, fmt.Errorf("open %s: %w", service.Name, err)
		}
		o.opened = append(o.opened, opened{one, service.Name})
		services = append(services, one.Service)
	}
	if o.rpc, err = rpc.NewServer(cfg.RPC, t, s.Identity.ErrorDomain(), services); err != nil {
		return o, err
	}
	if o.webPort != nil {
		if o.web, err = web.New(cfg.Web, cfg.RPC, o.rpc, t); err != nil {
			return o, err
		}
	}
	// An unreachable backend fails the start, so that a rollout with a wrong address stops before it
	// replaces pods that work.
	return o, o.check(ctx)
}

// check asks every backend once.
func (o *Running) check(ctx context.Context) error {
	var problems []error
	for _, one := range o.opened {
		if one.Check != nil {
			if _, err := ask(ctx, one.Check); err != nil {
				problems = append(problems, fmt.Errorf("check %s: %w", one.name, err))
			}
		}
	}
	return errors.Join(problems...)
}

// close undoes an open that came only halfway.
func (o *Running) close(ctx context.Context) {
	for _, lis := range []net.Listener{o.grpc, o.webPort} {
		if lis != nil {
			_ = lis.Close() // It served nothing.
		}
	}
	o.listeners.Close()
	for _, one := range o.opened {
		if one.Close != nil {
			_ = one.Close(ctx) // The error that matters is the one that ended open.
		}
	}
}

// Addresses are where the server answers gRPC, the kubelet and HTTP.
func (o *Running) Addresses() (grpc, probe, http string) {
	return o.grpc.Addr().String(), o.listeners.Probe.Addr().String(), o.listeners.HTTP.Addr().String()
}

// WebAddress is where the server answers browsers, "" if it does not.
func (o *Running) WebAddress() string {
	if o.webPort == nil {
		return ""
	}
	return o.webPort.Addr().String()
}

// Serve answers until ctx is done, and drains.
func (o *Running) Serve(ctx context.Context) error {
	p := &Process{
		Config:      o.config.Process,
		Telemetry:   o.telemetry,
		SetReady:    o.rpc.Health().SetServing,
		ServeProbes: o.rpc.Health().ServeProbes,
		Draining:    o.draining,
		Run: map[string]func(context.Context) error{
			// Serve of gRPC knows no context: GracefulStop in endWork ends it.
			"grpc": func(context.Context) error { return o.rpc.Serve(o.grpc) },
			// newBackends registers the gauge, which is why it is called once, by the part itself.
			"backends": o.untilDrain(
				func(ctx context.Context) { watchBackends(ctx, o.newBackends(), checkInterval) },
			),
		},
		EndWork:   o.endWork,
		Listening: []any{"grpc", o.grpc.Addr().String(), "version", o.Version},
	}
	if o.web != nil {
		p.Run["web"] = func(context.Context) error { return o.web.Serve(o.webPort) }
		p.Listening = append(p.Listening, "web", o.WebAddress())
	}
	for _, one := range o.opened {
		if one.Work != nil {
			p.Run[one.name] = o.untilDrain(one.Work)
		}
		if one.Close != nil {
			p.Close = append(p.Close, Closer{one.name, one.Close})
		}
	}
	// The listeners are open, so that the kernel queues connections until the parts accept them.
	p.SetReady(true)
	return p.Serve(ctx, o.listeners)
}

// untilDrain is a part of the process whose work ends when the drain begins, because what it works
// on is closed then. The part itself goes on: one that returned would end the process.
func (o *Running) untilDrain(work func(context.Context)) func(context.Context) error {
	// Counted here and not in the goroutine: endWork must not find 0 before the part has begun.
	o.working.Add(1)
	return func(ctx context.Context) error {
		working, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			select {
			case <-o.draining:
				stop()
			case <-working.Done():
			}
		}()
		work(working)
		// Closing waits for this, so that no work uses a backend that is closed.
		o.working.Done()
		<-ctx.Done()
		return nil
	}
}

// endWork lets calls under way and the work beside them end. What is cut at the deadline is no
// failure of the server: its clients resume it.
func (o *Running) endWork(ctx context.Context) error {
	// Both ports end at the same time, since they share the time of the step.
	var ending sync.WaitGroup
	end := func(port string, stop func(context.Context) error) {
		ending.Go(func() {
			if err := stop(ctx); err != nil {
				o.telemetry.Log.Warn("calls under way at the deadline of the drain", "port", port, "error", err)
			}
		})
	}
	end("grpc", o.rpc.GracefulStop)
	if o.web != nil {
		end("web", o.web.Shutdown)
	}
	ending.Wait()
	o.working.Wait()
	return nil
}
