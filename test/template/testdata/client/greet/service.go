// Package greet calls GreetService: one file per RPC, named as the server's.
package greet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

var descriptor = quartetv1.File_quartet_v1_greet_proto.Services().ByName("GreetService")

// Config is what can be set of the steady traffic.
type Config struct {
	Greetings float64 `env:"TRAFFIC_GREETINGS" envDefault:"1" desc:"serve: greetings of each mode per second; 0 for none"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(traffic.ValidRate("TRAFFIC_GREETINGS", c.Greetings))
}

// Service is what the command line has of GreetService.
func Service() cli.Service {
	cfg := &Config{}
	return cli.Service{
		Name:        "greet",
		Descriptors: []protoreflect.ServiceDescriptor{descriptor},
		Config:      cfg,
		Commands:    func(c *cli.Terminal) []*cobra.Command { return []*cobra.Command{greetCommand(c)} },
		Check:       check,
		Traffic: func(s cli.Connection) traffic.Source {
			source := traffic.Source{Service: descriptor}
			for _, step := range check(s) {
				operation := traffic.Operation{Method: step.Method, Rate: cfg.Greetings, Do: step.Do}
				source.Operations = append(source.Operations, operation)
			}
			return source
		},
		Demo: func(ctx context.Context, s cli.Connection, _ string, show cli.Show) error {
			greeting, err := NewClient(s.Conn).Greet(ctx, "Ada")
			if err == nil {
				show("greet", "%s", greeting)
			}
			return err
		},
	}
}

// Client calls GreetService.
type Client struct{ greet quartetv1.GreetServiceClient }

// NewClient makes a client from a connection, for which rpc.NewClient has to know the service.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{quartetv1.NewGreetServiceClient(conn)}
}

// check greets in each of the four modes. What comes before the name is a matter of the server.
func check(s cli.Connection) []cli.Step {
	client := NewClient(s.Conn)
	people := []string{"Ada", "Grace"}
	return []cli.Step{
		{Method: "Greet", Do: func(ctx context.Context) error {
			got, err := client.Greet(ctx, "Ada")
			return want(err, []string{got}, "Ada!")
		}},
		{Method: "GreetLetters", Do: func(ctx context.Context) error {
			got, err := client.GreetLetters(ctx, "Ada")
			return want(err, got, "A!", "d!", "a!")
		}},
		{Method: "GreetTogether", Do: func(ctx context.Context) error {
			got, err := client.GreetTogether(ctx, people)
			return want(err, []string{got}, "Ada and Grace!")
		}},
		{Method: "GreetEach", Do: func(ctx context.Context) error {
			got, err := client.GreetEach(ctx, people)
			return want(err, got, "Ada!", "Grace!")
		}},
	}
}

// want wants greetings with these ends.
func want(err error, got []string, ends ...string) error {
	if err != nil {
		return err
	}
	right := len(got) == len(ends)
	for i := 0; right && i < len(got); i++ {
		right = strings.HasSuffix(got[i], ", "+ends[i])
	}
	if !right {
		return fmt.Errorf("%w: %q in place of %q", traffic.ErrWrong, got, ends)
	}
	return nil
}

func greetCommand(c *cli.Terminal) *cobra.Command {
	return &cobra.Command{
		Use:     "greet NAME",
		Short:   "Greet a person",
		Example: c.Examples("  PROGRAM greet Ada"),
		Args:    cli.Positional(1, 1),
		RunE: c.Do(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				greeting, err := NewClient(s.Conn).Greet(ctx, args[0])
				if err != nil {
					return fmt.Errorf("greet: %w", err)
				}
				_, err = fmt.Fprintln(c.Stdout(), cli.Printable(greeting))
				return err
			})
		}),
	}
}
