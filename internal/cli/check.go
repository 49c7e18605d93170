package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/rpc"
)

// check is the name of the command.
const check = "check"

// checkCommand makes the command "check".
func (c *command) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   check,
		Short: "See whether everything works",
		Long: `Waits until the servers say that each of the services is serving, makes one call of each mode that they have, verifies the
answers, and removes what it made. It is what "helm test" runs.`,
		// The examples have the program as it was called.
		Example: fmt.Sprintf("  %s check\n  %[1]s check --timeout 30s && echo all is well", c.typed),
		Args:    Positional(0, 0),
		RunE: c.do(func(ctx context.Context, _ []string) error {
			// One set of connections serves all services.
			return c.call(ctx, c.Services, func(connected []Connection) error {
				// The steps of all services are made and validated first, so that a mistake in the last service
				// shows before the first makes a call.
				checks := make([][]Step, len(c.Services))
				for i, service := range c.Services {
					// A service may have nothing to check beyond its health.
					if service.Check == nil {
						continue
					}
					checks[i] = service.Check(connected[i])
					if err := service.validateSteps(checks[i]); err != nil {
						// A method that is not in the contract is a mistake of the program, which no retry mends.
						return usageError{err}
					}
				}
				if err := c.awaitServices(ctx, connected); err != nil {
					return err
				}
				write := writeStep
				if asJSON {
					write = func(w io.Writer, s step) error { return WriteJSON(w, s) }
				}
				// The health of all services is a step of its own in the output, the first.
				if err := write(c.stdout, step{Mode: "grpc.health.v1", Method: "serving"}); err != nil {
					return err
				}
				for i, service := range c.Services {
					if err := c.check(ctx, service, checks[i], write); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write each step as one line of JSON")
	return cmd
}

// step is a step that succeeded, as a line of the output: --json has it under these names.
type step struct {
	Mode    string `json:"mode"`
	Service string `json:"service,omitempty"`
	// Method is the RPC, or "serving" for the question to the health service, which has no Service
	// here.
	Method string `json:"method"`
	// Seconds is how long the call took, with all its retries.
	Seconds float64 `json:"seconds"`
}

// writeStep writes a step for people, in columns: mode, method, time.
func writeStep(w io.Writer, s step) error {
	took := ""
	if s.Service != "" {
		// Ten microseconds are as exact as a call over a network can be measured.
		took = time.Duration(s.Seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
	}
	_, err := fmt.Fprintf(w, "ok  %-17s %-19s %s\n", s.Mode, s.Method, took)
	return err
}

// healthPause is the time between two questions whether a service is serving.
const healthPause = 500 * time.Millisecond

// awaitServices returns when all services are serving. A ready connection does not prove that, see
// call.
func (c *command) awaitServices(ctx context.Context, connected []Connection) error {
	// Without --timeout a command does not wait for ever.
	return c.withTimeout(ctx, func(ctx context.Context) error {
		// The services are asked one after the other, within one timeout for all of them.
		for i, service := range c.Services {
			for _, descriptor := range service.Descriptors {
				if err := c.awaitService(ctx, c.config.target(service), connected[i],
					string(descriptor.FullName())); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// awaitService asks until the service is serving. It says once what it waits for, and returns that
// as an error when ctx is done.
func (c *command) awaitService(
	ctx context.Context,
	target string,
	conn Connection,
	service string,
) error {
	// said is the reason that was noted last.
	said := ""
	for {
		// A call that fails because the server is not there counts as a reason to wait, too.
		reason := unserving(ctx, conn, service)
		if reason == "" {
			return nil
		}
		// The call may know that the time is over before the timer of ctx has run, which gives ctx its
		// cause.
		if deadline, limited := ctx.Deadline(); limited && !time.Now().Before(deadline) {
			<-ctx.Done()
		}
		// The reason that was noted last says more than that the last call ran out of time.
		if ctx.Err() != nil {
			return fmt.Errorf("server at %s: %s", target, cmp.Or(said, reason))
		}
		// Each reason is noted once, however often it is the answer.
		if reason != said {
			said = reason
			c.note("waiting for server at %s: %s", target, Printable(reason))
		}
		_ = rpc.Sleep(ctx, healthPause) // The next answer is that ctx is done.
	}
}

// unserving is why a service is not serving, or "".
func unserving(ctx context.Context, conn Connection, service string) string {
	answer, err := healthpb.NewHealthClient(
		conn.Conn,
	).Check(
		ctx,
		&healthpb.HealthCheckRequest{Service: service},
	)
	switch {
	// The health protocol (grpc.health.v1) has this code for a service that the server does not know.
	case status.Code(err) == codes.NotFound:
		return rpc.LacksService + " " + service
	case err != nil:
		// The call itself failed, as when the connection was lost.
		return fmt.Sprintf("no answer whether %s is serving: %s", service, status.Convert(err).Message())
	// The server is there, and drains, or has lost its backend, or is not ready yet.
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Sprintf("%s is not serving", service)
	default:
		return ""
	}
}

// check goes through the steps of a service in their order, and stops at the first that fails, but
// for those that clean up.
func (c *command) check(
	ctx context.Context,
	service Service,
	steps []Step,
	write func(io.Writer, step) error,
) (failed error) {
	// Later steps build on earlier ones, so there is no point in going on after a failure.
	for _, s := range steps {
		if failed != nil && s.CleanUp {
			c.cleanUp(ctx, s)
		}
		if failed == nil {
			failed = c.checkStep(ctx, service, s, write)
		}
	}
	return failed
}

// cleanUp does a step that cleans up after one that has failed, which is what the command reports.
func (c *command) cleanUp(ctx context.Context, s Step) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.config.Timeout)
	defer cancel()
	if err := s.Do(ctx); err != nil {
		c.note("cleaning up after that: %s", Printable(err.Error()))
	}
}

// checkStep does a step and writes that it has succeeded.
func (c *command) checkStep(
	ctx context.Context, service Service, s Step, write func(io.Writer, step) error,
) error {
	// validateSteps has made sure that it is in the contract.
	method := service.method(s.Method)
	done := step{
		Mode:    ModeName(method),
		Service: string(method.Parent().FullName()),
		Method:  s.Method,
	}
	began := time.Now()
	// The error says which call failed, since the steps before it were printed as good.
	if err := s.Do(ctx); err != nil {
		return fmt.Errorf("%s %s/%s: %w", done.Mode, done.Service, done.Method, err)
	}
	done.Seconds = time.Since(began).Seconds()
	return write(c.stdout, done)
}

// ModeName is what people call the mode of a method.
func ModeName(method protoreflect.MethodDescriptor) string {
	switch {
	case method.IsStreamingClient() && method.IsStreamingServer():
		return "bidirectional"
	case method.IsStreamingClient():
		return "client streaming"
	case method.IsStreamingServer():
		return "server streaming"
	default:
		return "unary"
	}
}
