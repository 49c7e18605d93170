package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// guest is a service with one of everything that the host asks for. What happens to it is in its
// events.
type guest struct {
	grpc_testing.UnimplementedTestServiceServer
	events   chan string
	draining <-chan struct{}
	check    func(context.Context) error
	Settings struct {
		Size config.Bytes `env:"SIZE" envDefault:"1MiB" desc:"size of something"`
	}
}

func (g *guest) UnaryCall(
	context.Context,
	*grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	return nil, errors.ErrUnsupported
}

// StreamingOutputCall ends with the drain, as a stream that would not end by itself has to.
func (g *guest) StreamingOutputCall(
	_ *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse],
) error {
	if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
		return err
	}
	select {
	case <-g.draining:
		g.events <- "stream told"
		return rpc.Stopping("bye")
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func newGuest() *guest {
	return &guest{events: make(chan string, 10), check: func(context.Context) error { return nil }}
}

func (g *guest) service() app.Service {
	return app.Service{
		Name:   "guest",
		Config: &g.Settings,
		Open: func(_ context.Context, host app.Host) (app.Opened, error) {
			g.draining = host.Draining
			return app.Opened{
				Service: rpc.Service{
					Register: func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, g) },
					Errors: rpc.ErrorTable{
						Rules: []rpc.ErrorRule{{Is: errors.ErrUnsupported, Code: 12, Reason: "NOT_YET"}},
					},
				},
				Check: func(ctx context.Context) error { return g.check(ctx) },
				Work: func(ctx context.Context) {
					g.events <- "work"
					<-ctx.Done()
					time.Sleep(50 * time.Millisecond) // Closing would be done by then.
					g.events <- "work ended"
				},
				Close: func(context.Context) error {
					g.events <- "closed"
					return nil
				},
			}, nil
		},
	}
}

func TestAServiceIsDrainedInOrder(t *testing.T) {
	g := newGuest()
	s := apptest.Start(t, telemetry.Discard(), []app.Service{g.service()})
	health, err := healthpb.NewHealthClient(
		s.Conn,
	).Watch(
		apptest.Deadline(t),
		&healthpb.HealthCheckRequest{Service: "grpc.testing.TestService"},
	)
	if err != nil {
		t.Fatal(err)
	}
	wantHealth(t, health, healthpb.HealthCheckResponse_SERVING)
	stream, err := grpc_testing.NewTestServiceClient(
		s.Conn,
	).StreamingOutputCall(
		apptest.Deadline(t),
		&grpc_testing.StreamingOutputCallRequest{},
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if got := <-g.events; got != "work" {
		t.Errorf("got %q", got)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Stop() }()
	wantHealth(t, health, healthpb.HealthCheckResponse_NOT_SERVING)
	_, err = stream.Recv()
	apptest.WantStatus(t, err, 14, "STOPPING")
	if err := <-ended; err != nil {
		t.Errorf("drain: %v", err)
	}
	close(g.events)
	var events []string
	for event := range g.events {
		events = append(events, event)
	}
	if len(events) != 3 || events[2] != "closed" {
		t.Errorf(
			"got %q, want the stream told, the work ended, and the service closed after both",
			events,
		)
	}
}

func wantHealth(
	t *testing.T,
	stream grpc.ServerStreamingClient[healthpb.HealthCheckResponse],
	want healthpb.HealthCheckResponse_ServingStatus,
) {
	t.Helper()
	got, err := stream.Recv()
	if err != nil || got.GetStatus() != want {
		t.Fatalf("health is %v, %v; want %v", got, err, want)
	}
}

func TestErrorsOfAServiceGoByItsTable(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), []app.Service{newGuest().service()})
	_, err := grpc_testing.NewTestServiceClient(
		s.Conn,
	).UnaryCall(
		apptest.Deadline(t),
		&grpc_testing.SimpleRequest{},
	)
	apptest.WantStatus(t, err, 12, "NOT_YET")
}

func TestAServerWithoutServicesRunsAndDrains(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), nil)
	got, err := healthpb.NewHealthClient(
		s.Conn,
	).Check(
		apptest.Deadline(t),
		&healthpb.HealthCheckRequest{},
	)
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", got, err)
	}
}

// TestPeersThatSayNothingDoNotFailTheDrain has a connection without a byte on each port beside that
// for calls. A second one that is answered proves that the first was accepted.
func TestPeersThatSayNothingDoNotFailTheDrain(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), nil)
	for _, address := range []string{s.Probe, s.HTTP} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	scrape(t, s.HTTP)
	conn, err := grpc.NewClient(s.Probe, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthpb.NewHealthClient(conn).Check(apptest.Deadline(t),
		&healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMistakesInTheListOfServicesAreNamed(t *testing.T) {
	for want, change := range map[string]func(*app.Service){
		`service "my-guest": its name has`:           func(s *app.Service) { s.Name = "my-guest" },
		`service "grpc": another service or a part`:  func(s *app.Service) { s.Name = "grpc" },
		`service "guest": another service or a part`: func(*app.Service) {},
		`service "other": Open is not set`:           func(s *app.Service) { s.Name, s.Open = "other", nil },
		`service "other": Config has to be`:          func(s *app.Service) { s.Name, s.Config = "other", struct{}{} },
		`TEST_RPC_MAX_IN_FLIGHT: two structs`: func(s *app.Service) {
			s.Name, s.Config = "rpc", &struct {
				Max int `env:"MAX_IN_FLIGHT"`
			}{}
		},
		"registered twice": func(s *app.Service) { s.Name = "other" },
	} {
		t.Run(want, func(t *testing.T) {
			second := newGuest().service()
			change(&second)
			_, err := app.Server{
				Identity: apptest.Identity,
				Services: []app.Service{newGuest().service(), second},
			}.
				Open(
					t.Context(),
					apptest.Environ(),
					telemetry.Discard(),
				)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestABackendThatGoesAwayShows(t *testing.T) {
	g := newGuest()
	s := apptest.Start(t, telemetry.Discard(), []app.Service{g.service()})
	apptest.WantNumbers(t, s.Telemetry, map[string]float64{"backend_up{guest}": 1})
}

func TestAServiceWhoseBackendIsDownIsNotServingAndTheOthersAre(t *testing.T) {
	g := newGuest()
	var asked atomic.Int32
	g.check = func(context.Context) error {
		if asked.Add(1) == 1 {
			return nil // Otherwise the server does not start.
		}
		return errors.New("the disk is full")
	}
	// It has no backend.
	other := app.Service{Name: "other", Open: func(context.Context, app.Host) (app.Opened, error) {
		return app.Opened{Service: rpc.Service{Register: func(r grpc.ServiceRegistrar) {
			grpc_testing.RegisterUnimplementedServiceServer(r,
				grpc_testing.UnimplementedUnimplementedServiceServer{})
		}}}, nil
	}}
	s := apptest.Start(t, telemetry.Discard(), []app.Service{g.service(), other})
	probes, err := grpc.NewClient(s.Probe,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer probes.Close()
	health := func(conn *grpc.ClientConn, name string) healthpb.HealthCheckResponse_ServingStatus {
		response, err := healthpb.NewHealthClient(conn).Check(apptest.Deadline(t),
			&healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(name, err)
		}
		return response.GetStatus()
	}
	apptest.Eventually(t, func() bool {
		return health(s.Conn, "grpc.testing.TestService") == healthpb.HealthCheckResponse_NOT_SERVING
	}, func() string { return "the service is still SERVING" })
	for name, conn := range map[string]*grpc.ClientConn{"": s.Conn,
		"grpc.testing.UnimplementedService": s.Conn, "readiness": probes, "liveness": probes} {
		if got := health(conn, name); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q is %v", name, got)
		}
	}
}

func TestABackendThatDoesNotAnswerEndsTheStart(t *testing.T) {
	g := newGuest()
	g.check = func(context.Context) error { return errors.New("no route") }
	_, err := app.Server{
		Identity: apptest.Identity,
		Services: []app.Service{g.service()},
	}.Open(
		t.Context(),
		apptest.Environ(),
		telemetry.Discard(),
	)
	if err == nil || !strings.Contains(err.Error(), "check guest: no route") {
		t.Errorf("got %v", err)
	}
	if got := <-g.events; got != "closed" {
		t.Errorf("got %q", got)
	}
}

func TestTheProbePortAnswersTheKubelet(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), nil)
	conn, err := grpc.NewClient(
		s.Probe,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range []string{"liveness", "readiness"} {
		apptest.Eventually(t, func() bool {
			response, err := healthpb.NewHealthClient(
				conn,
			).Check(
				apptest.Deadline(t),
				&healthpb.HealthCheckRequest{Service: name},
			)
			return err == nil && response.GetStatus() == healthpb.HealthCheckResponse_SERVING
		}, func() string { return name + " is not SERVING" })
	}
}

// TestADrainIsSeenInTheMetrics drains a server that waits for its last scrape, which is the one
// that looks.
func TestADrainIsSeenInTheMetrics(t *testing.T) {
	s := apptest.Start(
		t,
		telemetry.Discard(),
		nil,
		"TEST_DRAIN_SCRAPE_WAIT=30s",
		"TEST_DRAIN_BUDGET=60s",
	)
	if text := scrape(t, s.HTTP); !strings.Contains(text, "test_draining 0\n") ||
		!strings.Contains(text, "test_drain_seconds 0\n") {
		t.Errorf("before the drain:\n%s", text)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Stop() }()
	text := ""
	// The last scrape ends the drain, and has to be one that was begun for it.
	for !strings.Contains(text, "test_draining 1\n") {
		text = scrape(t, s.HTTP)
	}
	if strings.Contains(text, "test_drain_seconds 0\n") ||
		!strings.Contains(text, "test_drain_limit_seconds 60\n") {
		t.Errorf("the drain takes no time, or may take another than its budget:\n%s", text)
	}
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			_, _ = get(s.HTTP) // One of them comes while the drain waits for it, and ends it.
		}
	}
}

// TestAFailedStepOfADrainIsSeenInTheLastScrape has a service whose work ignores that it is to end.
func TestAFailedStepOfADrainIsSeenInTheLastScrape(t *testing.T) {
	release := make(chan struct{})
	released := make(chan struct{})
	deaf := app.Service{
		Name:   "deaf",
		Config: &struct{}{},
		Open: func(context.Context, app.Host) (app.Opened, error) {
			return app.Opened{
				Service: rpc.Service{Register: func(grpc.ServiceRegistrar) {}},
				Work: func(context.Context) {
					<-release
					close(released)
				},
			}, nil
		},
	}
	// They leave the step "work" a second, and the last scrape all the time that it needs.
	s := apptest.Start(
		t,
		telemetry.Discard(),
		[]app.Service{deaf},
		"TEST_DRAIN_DELAY=0s",
		"TEST_DRAIN_SCRAPE_WAIT=60s",
		"TEST_DRAIN_BUDGET=76s",
	)
	const failed = `test_drain_step_failed{step="work"} `
	if text := scrape(t, s.HTTP); !strings.Contains(text, failed+"0\n") {
		t.Errorf("before the drain:\n%s", text)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Stop() }()
	seen := false
	for done := false; !done; {
		text, _ := get(s.HTTP) // Nothing is there once the drain has ended.
		seen = seen || strings.Contains(text, failed+"1\n")
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "drain step work: ignored its deadline") {
				t.Errorf("the drain says %v", err)
			}
			done = true
		default:
		}
	}
	if !seen {
		t.Error("no scrape has seen that the step failed")
	}
	close(release)
	<-released
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	text, err := get(address)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func get(address string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// run runs the main function of a server with one service.
func run(args []string, environ ...string) (status int, output string) {
	var out bytes.Buffer
	server := app.Server{
		Identity: apptest.Identity,
		Version:  "v1.2.3",
		Services: []app.Service{newGuest().service()},
	}
	status = server.Main(append([]string{"/usr/bin/shop"}, args...), environ, &out, &out)
	return status, out.String()
}

func TestWrongConfigurationListsEveryProblemAndExitsWith2(t *testing.T) {
	status, output := run(nil, "TEST_GUEST_SIZE=many", "TEST_DRAIN_BUDGET=-1s", "TEST_GRPC_ADRESS=:1")
	if status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
	for _, name := range []string{"TEST_GUEST_SIZE", "TEST_DRAIN_BUDGET", "TEST_GRPC_ADRESS"} {
		if !strings.Contains(output, name) {
			t.Errorf("%s is not named in:\n%s", name, output)
		}
	}
}

func TestABudgetWithoutTimeForCallsIsRefused(t *testing.T) {
	for _, environ := range [][]string{
		{"TEST_DRAIN_BUDGET=0s"}, {"TEST_DRAIN_BUDGET=30s", "TEST_DRAIN_SCRAPE_WAIT=30s"}, {"TEST_DRAIN_DELAY=-1s"},
	} {
		if status, output := run(
			nil,
			environ...); status != 2 ||
			!strings.Contains(output, "TEST_DRAIN_") {
			t.Errorf("%q: exit status %d\n%s", environ, status, output)
		}
	}
}

func TestArgumentsThatMeanNothingExitWith2(t *testing.T) {
	if status, output := run([]string{"--port=1"}); status != 2 ||
		!strings.Contains(output, "--port") {
		t.Errorf("exit status %d, want 2, and:\n%s", status, output)
	}
}

func TestAPortThatIsTakenIsNamedWithItsVariableAndExitsWith1(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, variable := range []string{"TEST_GRPC_ADDRESS", "TEST_PROBE_ADDRESS", "TEST_HTTP_ADDRESS", "TEST_PROFILE_ADDRESS"} {
		status, output := run(nil, apptest.Environ(variable+"="+taken.Addr().String())...)
		if status != 1 || !strings.Contains(output, taken.Addr().String()) ||
			!strings.Contains(output, variable) {
			t.Errorf("%s: exit status %d, want 1 and %s in:\n%s", variable, status, taken.Addr(), output)
		}
	}
}

func TestHelpNamesEveryVariableAndTheProgramAsItWasStarted(t *testing.T) {
	status, output := run([]string{"--help"})
	if status != 0 ||
		!strings.HasPrefix(output, "shop answers the services of test until SIGTERM: guest.") {
		t.Errorf("exit status %d:\n%s", status, output)
	}
	for _, name := range []string{"TEST_GRPC_ADDRESS", "TEST_DRAIN_BUDGET", "TEST_RPC_TLS_MODE", "TEST_GUEST_SIZE", "size of something"} {
		if !strings.Contains(output, name) {
			t.Errorf("%s is not in:\n%s", name, output)
		}
	}
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "  TEST_") && len(fields) < 3 {
			t.Errorf("%s is not explained", fields[0])
		}
	}
	if status, output := run([]string{"--version"}); status != 0 ||
		!strings.HasPrefix(output, "test-server v1.2.3 (") ||
		!strings.Contains(output, runtime.Version()) {
		t.Errorf("exit status %d: %q", status, output)
	}
}

func TestNamesFollowFromTheIdentity(t *testing.T) {
	id := app.Identity{Name: "web-shop"}
	if id.EnvironmentPrefix() != "WEB_SHOP_" || id.Namespace() != "web_shop" ||
		id.Component("server") != "web-shop-server" {
		t.Errorf("got %q, %q and %q", id.EnvironmentPrefix(), id.Namespace(), id.Component("server"))
	}
}

// TestAStopWhileABackendIsWaitedForIsNoFailure has a backend that is not there, in each place where
// one can be waited for.
func TestAStopWhileABackendIsWaitedForIsNoFailure(t *testing.T) {
	for name, arrange := range map[string]func(*app.Service, func(context.Context) error){
		"open": func(s *app.Service, wait func(context.Context) error) {
			s.Open = func(ctx context.Context, _ app.Host) (app.Opened, error) {
				return app.Opened{}, wait(ctx)
			}
		},
		"check": func(s *app.Service, wait func(context.Context) error) {
			open := s.Open
			s.Open = func(ctx context.Context, host app.Host) (app.Opened, error) {
				opened, err := open(ctx, host)
				opened.Check = wait
				return opened, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := newGuest().service()
			arrange(&service, func(ctx context.Context) error {
				if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
					return err
				}
				<-ctx.Done()
				return fmt.Errorf("waiting for the backend: %w: connection refused", ctx.Err())
			})
			var out bytes.Buffer
			server := app.Server{Identity: apptest.Identity, Services: []app.Service{service}}
			if status := server.Main([]string{"shop"}, apptest.Environ(), &out, &out); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if said := out.String(); strings.Contains(said, "ERROR") || !strings.Contains(said, "INFO") ||
				!strings.Contains(said, "connection refused") {
				t.Errorf("logged:\n%s", said)
			}
		})
	}
}
