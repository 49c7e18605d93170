package cli_test

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/cli"
)

// A service of the command line has its descriptors, commands for people, and the calls that prove
// that it works. The program adds check, load, serve, flags for the server and for time, and exit
// codes.
func ExampleService() {
	call := func(ctx context.Context, s cli.Connection) error {
		_, err := grpc_testing.NewTestServiceClient(s.Conn).EmptyCall(ctx, &grpc_testing.Empty{})
		return err
	}
	service := cli.Service{
		Name: "greet",
		Descriptors: []protoreflect.ServiceDescriptor{
			grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService"),
		},
		Commands: func(c *cli.Terminal) []*cobra.Command {
			return []*cobra.Command{{
				Use:  "greet NAME",
				Args: cli.Positional(1, 1),
				RunE: c.Find(func(ctx context.Context, args []string) error {
					return c.Call(ctx, func(s cli.Connection) error {
						if err := call(ctx, s); err != nil {
							return fmt.Errorf("greet: %w", err)
						}
						_, err := fmt.Println("Hello,", args[0])
						return err
					})
				}),
			}}
		},
		Check: func(s cli.Connection) []cli.Step {
			return []cli.Step{
				{Method: "EmptyCall", Do: func(ctx context.Context) error { return call(ctx, s) }},
			}
		},
	}
	program := cli.Program{
		Identity: app.Identity{Name: "shop"},
		Version:  "dev",
		Services: []cli.Service{service},
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer()
	defer server.Stop()
	grpc_testing.RegisterTestServiceServer(server, &fake{})
	go func() { _ = server.Serve(listener) }()

	args := []string{"client", "--server", listener.Addr().String(), "greet", "Ada"}
	code := program.Run(context.Background(), args, nil, os.Stdin, os.Stdout, os.Stderr)
	fmt.Println("exit code", code)
	// Output:
	// Hello, Ada
	// exit code 0
}
