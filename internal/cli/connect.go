package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// flushTimeout bounds how long the end of a command is held up by a trace collector.
const flushTimeout = 2 * time.Second

// newTelemetry makes the telemetry of this run, whose log goes to standard error above the live
// line.
func (c *command) newTelemetry(ctx context.Context) *telemetry.Telemetry {
	return app.NewTelemetry(
		ctx,
		c.Identity,
		component,
		c.Version,
		c.config.Process.Telemetry,
		c.environ,
		c.stderr,
	)
}

// flush ends telemetry. What was asked for is done, whether or not its trace arrives.
func flush(ctx context.Context, t *telemetry.Telemetry) {
	// The command may have ended because ctx is done; its spans are exported all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	_ = t.Shutdown(ctx)
}

// connections are one to each target, with all services that are there.
type connections []connection

// connection is one gRPC connection; target and services say what it was made for.
type connection struct {
	*grpc.ClientConn
	target   string
	services []protoreflect.ServiceDescriptor
}

// connect opens connections to services, which are dialled with the first call. Without a service
// there is still one connection to the server, for its health.
func (c *command) connect(
	services []Service,
	t *telemetry.Telemetry,
	opts ...grpc.DialOption,
) (conns connections, err error) {
	if len(services) == 0 {
		conns = connections{{target: string(c.config.Server)}}
	}
	for _, service := range services {
		// Services at one target share a connection: HTTP/2 carries all their calls.
		at := conns.index(c.config.target(service))
		if at < 0 {
			at, conns = len(conns), append(conns, connection{target: c.config.target(service)})
		}
		conns[at].services = append(conns[at].services, service.Descriptors...)
	}
	for i := range conns {
		// NewClient does not dial. It fails for a target or an option that cannot be right.
		if conns[i].ClientConn, err = rpc.NewClient(
			c.config.RPC,
			t,
			conns[i].target,
			conns[i].services,
			opts...); err != nil {
			// What is open already is closed again.
			return nil, usageError{errors.Join(err, conns[:i].close())}
		}
	}
	return conns, nil
}

// index finds the connection to a target, -1 if there is none.
func (c connections) index(target string) int {
	for i := range c {
		if c[i].target == target {
			return i
		}
	}
	return -1
}

// close closes all connections, and so ends the calls that are left on them.
func (c connections) close() error {
	var problems []error
	for _, conn := range c {
		problems = append(problems, conn.Close())
	}
	return errors.Join(problems...)
}

// connected has a Connection for each of the services.
func (c *command) connected(
	services []Service,
	conns connections,
	t *telemetry.Telemetry,
) ([]Connection, error) {
	instance, err := c.config.instance()
	if err != nil {
		return nil, err
	}
	connected := make([]Connection, len(services))
	for i, service := range services {
		connected[i] = Connection{
			// connect has made a connection for each service, so that there is one.
			Conn:      conns[conns.index(c.config.target(service))].ClientConn,
			Telemetry: t,
			Instance:  instance,
		}
	}
	return connected, nil
}

// call calls do once the connections are ready: that of a single gRPC service when the server says
// SERVING for it, that of several when the server says SERVING for itself, whether or not it has
// them all.
func (c *command) call(ctx context.Context, services []Service, do func([]Connection) error) error {
	// Everything that this function opens, it closes again before the command ends.
	t := c.newTelemetry(ctx)
	// Spans of the call reach the collector, if there is one, before the process exits.
	defer flush(ctx, t)
	conns, err := c.connect(services, c.callTelemetry(t))
	if err != nil {
		return err
	}
	defer conns.close()
	// Waiting first lets the command say what it waits for, which a call that waits for a connection
	// does not.
	if err := c.await(ctx, conns); err != nil {
		return err
	}
	connected, err := c.connected(services, conns, c.forPerson(t))
	if err != nil {
		return err
	}
	// A stream of a command is resumed for as long as it takes; --timeout and signals end it.
	for i := range connected {
		connected[i].Resumption.MaxTries = math.MaxInt
	}
	return c.ended(ctx, do(connected))
}

// waitTimeout is how long a command waits for servers without --timeout.
const waitTimeout = 30 * time.Second

// await returns when all connections are ready, and tells the reason while one is not.
func (c *command) await(ctx context.Context, conns connections) error {
	return c.withTimeout(ctx, func(ctx context.Context) error {
		for _, conn := range conns {
			err := rpc.WaitReady(ctx, conn.ClientConn, func(reason string) {
				c.note(
					"waiting for server at %s: %s",
					conn.Target(),
					// The reason comes from the network: it may have control characters or the password of a proxy
					// in it.
					Printable(telemetry.Redacted(conn.naming(reason))),
				)
			})
			if err != nil {
				// The text is all that is used of it: the status of gRPC is about the connection, and not about
				// a call.
				return errors.New(conn.naming(err.Error()))
			}
		}
		return nil
	})
}

// withTimeout waits for servers, and gives a timeout an error of its own.
func (c *command) withTimeout(ctx context.Context, wait func(context.Context) error) error {
	// --timeout bounds the whole command, so that it bounds the wait as well.
	limit := cmp.Or(c.timeout, waitTimeout)
	waiting, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	err := wait(waiting)
	// An error of wait is what the wait was for; that it ended for lack of time is put before it.
	if err != nil && errors.Is(context.Cause(waiting), errTimeout) {
		return fmt.Errorf("%w %v: %w; a longer --timeout waits longer", errTimeout, limit, err)
	}
	return c.ended(ctx, err)
}

// naming puts the name of the service into the reason that the server does not have it, which only
// a connection with a single one can have.
func (c connection) naming(reason string) string {
	if len(c.services) != 1 {
		return reason
	}
	return strings.Replace(
		reason,
		rpc.LacksService,
		rpc.LacksService+" "+string(c.services[0].FullName()),
		1,
	)
}

// callTelemetry is telemetry without a log line for each call that failed, unless a level is
// chosen: the error of the command says it already, and resumes are logged by what resumes. What
// else a connection logs is for its operator.
func (c *command) callTelemetry(t *telemetry.Telemetry) *telemetry.Telemetry {
	if c.levelChosen() {
		return t
	}
	return t.QuietCalls()
}
