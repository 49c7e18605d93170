package app_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// greeter implements a service of the contract.
type greeter struct {
	grpc_testing.UnimplementedTestServiceServer
	greeting string
}

func (g *greeter) UnaryCall(
	_ context.Context,
	r *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{
		Username: g.greeting + ", " + string(r.GetPayload().GetBody()),
	}, nil
}

// A service has a name, variables if it needs any, and a function that makes it ready. The server
// opens its listeners, answers with health, metrics, traces and limits, and drains when it is told
// to stop. A program calls Server.Main, a test calls Server.Open.
func ExampleService() {
	var settings struct {
		Greeting string `env:"GREETING" envDefault:"Hello" desc:"what a name is greeted with"`
	}
	service := app.Service{
		Name:   "greet",
		Config: &settings,
		Open: func(context.Context, app.Host) (app.Opened, error) {
			implementation := &greeter{greeting: settings.Greeting}
			return app.Opened{Service: rpc.Service{
				Register: func(r grpc.ServiceRegistrar) {
					grpc_testing.RegisterTestServiceServer(r, implementation)
				},
			}}, nil
		},
	}
	server := app.Server{
		Identity: app.Identity{Name: "shop"},
		Version:  "dev",
		Services: []app.Service{service},
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	running, err := server.Open(ctx, []string{
		"SHOP_GREET_GREETING=Good morning",
		"SHOP_GRPC_ADDRESS=127.0.0.1:0",
		"SHOP_PROBE_ADDRESS=127.0.0.1:0",
		"SHOP_HTTP_ADDRESS=127.0.0.1:0",
		"SHOP_DRAIN_DELAY=0s",
		"SHOP_DRAIN_SCRAPE_WAIT=0s",
	}, telemetry.Discard())
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Serve(ctx) }()

	address, _, _ := running.Addresses()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	response, err := grpc_testing.NewTestServiceClient(conn).UnaryCall(ctx,
		&grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte("Ada")}})
	fmt.Println(response.GetUsername(), err)
	_ = conn.Close()

	stop()
	fmt.Println("drained:", <-ended)
	// Output:
	// Good morning, Ada <nil>
	// drained: <nil>
}
