package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func (c *command) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "See whether everything works",
		Long: `Waits until the services say that they are serving, makes one call of each mode that they have, verifies the
answers, and removes what it made. It is what "helm test" runs.`,
		Example: fmt.Sprintf("  %s check\n  %[1]s check --timeout 30s && echo all is well", c.name),
		Args:    Positional(0, 0),
		RunE: c.do(func(ctx context.Context, _ []string) error {
			return c.call(ctx, c.Services, func(sessions []Session) error {
				fmt.Fprintf(c.stdout, "ok  %-18s%-20s\n", "grpc.health.v1", "serving")
				for i, service := range c.Services {
					if service.Check == nil {
						continue
					}
					if err := c.check(ctx, service, service.Check(sessions[i])); err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
}

// check goes through the steps of a service in their order, and stops at the first that fails.
func (c *command) check(ctx context.Context, service Service, steps []Step) error {
	for _, step := range steps {
		method := service.method(step.Method)
		mode := ModeName(method)
		began := time.Now()
		if err := step.Do(ctx); err != nil {
			return fmt.Errorf("%s %s/%s: %w", mode, method.Parent().FullName(), step.Method, err)
		}
		fmt.Fprintf(c.stdout, "ok  %-18s%-20s%v\n", mode, step.Method, time.Since(began).Round(10*time.Microsecond))
	}
	return nil
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
