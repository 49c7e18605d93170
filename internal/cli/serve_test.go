package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/porttest"
)

// serving is the environment of a client that serves, with more.
func serving(more ...string) []string {
	return append([]string{
		"TEST_LOG_FORMAT=json",
		"TEST_HTTP_ADDRESS=127.0.0.1:0",
		"TEST_PROBE_ADDRESS=127.0.0.1:0",
		"TEST_DRAIN_DELAY=0s",
		"TEST_INSTANCE=me",
	}, more...)
}

// serve runs a client until terminate is called.
func serve(
	t *testing.T,
	server string,
	environ ...string,
) (c *clitest.Terminal, exit <-chan int, terminate func()) {
	t.Helper()
	c = &clitest.Terminal{Services: services(), Environ: serving(environ...)}
	ctx, terminate := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- c.Run(ctx, server, "serve") }()
	return c, code, terminate
}

func probe(t *testing.T, address string) healthpb.HealthClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

// listening are the addresses in the log.
func listening(t *testing.T, c *clitest.Terminal) (addresses struct{ HTTP, Probe string }) {
	t.Helper()
	<-c.Err.Await(`"msg":"listening"`)
	for line := range strings.Lines(c.Err.String()) {
		if strings.Contains(line, `"msg":"listening"`) {
			if err := json.Unmarshal([]byte(line), &addresses); err != nil {
				t.Fatal(err)
			}
		}
	}
	return addresses
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	text, err := tryFetch(url)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tryFetch(url string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestServe(t *testing.T) {
	server := porttest.Address(t)
	c, exit, terminate := serve(t, server, "TEST_DRAIN_DELAY=1ms", "TEST_NAMES_TRAFFIC_CALLS=100")
	at := listening(t, c)
	health := probe(t, at.Probe)

	<-c.Err.Await("waiting for server")
	for name, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"liveness": healthpb.HealthCheckResponse_SERVING, "readiness": healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		if got, err := health.Check(t.Context(),
			&healthpb.HealthCheckRequest{Service: name}); err != nil || got.Status != want {
			t.Errorf("%s without a server: %v, %v", name, got, err)
		}
	}

	f, _ := startFake(t, server)
	<-c.Err.Await(`"msg":"ready"`)
	if got, err := health.Check(t.Context(),
		&healthpb.HealthCheckRequest{Service: "readiness"}); err != nil ||
		got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("readiness: %v, %v", got, err)
	}
	metrics := fetch(t, "http://"+at.HTTP+"/metrics")
	clitest.Want(
		t,
		metrics,
		`test_traffic_operations_total{grpc_method="FullDuplexCall",grpc_service="grpc.testing.TestService",grpc_type="bidi_stream",verdict="bad"} 0`,
	)

	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.Err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != 0 {
		t.Errorf("left behind: %d", f.kept)
	}
	clitest.Want(t, c.Err.String(), "connection refused")
	if n := strings.Count(c.Err.String(), "waiting for server"); n != 1 {
		t.Errorf("said %d times that it waits", n)
	}
}

// TestServeThatCannotStartLeavesNothing: the leak check of the package looks for its connections
// and its exporter.
func TestServeThatCannotStartLeavesNothing(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	before := goleak.IgnoreCurrent()
	environ := serving(
		"TEST_PROBE_ADDRESS="+listener.Addr().String(),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1",
	)
	c := clitest.Terminal{Services: services(), Environ: environ}
	if code := c.Run(t.Context(), "localhost:1", "serve"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	clitest.Want(t, c.Err.String(), "TEST_PROBE_ADDRESS")
	goleak.VerifyNone(t, before)
}

func TestServeStopsWhileItWaits(t *testing.T) {
	c, exit, terminate := serve(t, porttest.Address(t))
	listening(t, c)
	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.Err)
	}
}

// TestAServiceWithoutItsServerHoldsUpNoOther has one service that its server lacks, and one whose
// server is away.
func TestAServiceWithoutItsServerHoldsUpNoOther(t *testing.T) {
	for name, environ := range map[string][]string{
		"not on the server": {"TEST_NAMES_TRAFFIC_CALLS=100"},
		"server is away":    {"TEST_NAMES_TRAFFIC_CALLS=100", "TEST_LACKING_SERVER=" + porttest.Address(t)},
	} {
		t.Run(name, func(t *testing.T) {
			f, server := startFake(t, "")
			f.hold = make(chan struct{})
			c := &clitest.Terminal{
				Services: append([]cli.Service{lacking()}, services()...),
				Environ:  serving(environ...),
			}
			ctx, terminate := context.WithCancel(t.Context())
			exit := make(chan int, 1)
			go func() { exit <- c.Run(ctx, server, "serve") }()
			for range 4 { // two operations
				select {
				case <-f.hold:
				case <-time.After(20 * time.Second):
					t.Fatalf("no traffic:\n%s", &c.Err)
				}
			}
			if strings.Contains(c.Err.String(), `"msg":"ready"`) {
				t.Error("ready without all services")
			}
			if name == "not on the server" {
				select {
				case <-c.Err.Await(
					`"msg":"traffic not set up, trying again","service":"grpc.testing.UnimplementedService"`,
				):
				case <-time.After(20 * time.Second):
					t.Errorf("not told that the traffic of a service is not set up:\n%s", &c.Err)
				}
			}
			terminate()
			for code := -1; code < 0; {
				select {
				case <-f.hold:
				case code = <-exit:
					if code != 0 {
						t.Errorf("exit code %d", code)
					}
				}
			}
		})
	}
}

// serveHeld runs a client with an operation under way, which the fake holds.
func serveHeld(t *testing.T) (f *fake, c *clitest.Terminal, exit <-chan int, terminate func()) {
	t.Helper()
	f, server := startFake(t, "")
	f.hold = make(chan struct{})
	c, exit, terminate = serve(t, server, "TEST_NAMES_TRAFFIC_CALLS=100")
	<-f.hold
	return f, c, exit, terminate
}

func TestOperationsEndInPeaceWhileServersAreThere(t *testing.T) {
	f, c, exit, terminate := serveHeld(t)
	terminate()
	select {
	case <-c.Err.Await("are cut"):
	case <-time.After(cli.Absence + 500*time.Millisecond):
	}
	<-f.hold
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := c.Err.String(); strings.Contains(log, "are cut") || strings.Contains(log, "traffic: ") {
		t.Errorf("the client did not drain:\n%s", log)
	}
}

func TestServersThatAreGoneAreNotWaitedFor(t *testing.T) {
	f, c, exit, terminate := serveHeld(t)
	f.stop()
	began := time.Now()
	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took < cli.Absence || took > 5*time.Second {
		t.Errorf("the drain took %v", took)
	}
	clitest.Want(t, c.Err.String(), `"because":"servers are gone"`)
	if strings.Contains(c.Err.String(), "traffic: failing") {
		t.Errorf("what was cut was counted as bad:\n%s", &c.Err)
	}
}

// TestADrainIsSeenInTheMetrics drains a client that waits for its last scrape, which is the one
// that looks.
func TestADrainIsSeenInTheMetrics(t *testing.T) {
	c, exit, terminate := serve(t, porttest.Address(t), "TEST_DRAIN_SCRAPE_WAIT=10s")
	metrics := "http://" + listening(t, c).HTTP + "/metrics"
	clitest.Want(t, fetch(t, metrics), "test_draining 0\n")
	clitest.Want(t, fetch(t, metrics), "test_drain_seconds 0\n")
	terminate()
	<-c.Err.Await(`"step":"close"`) // The step before the last scrape.
	text := fetch(t, metrics)
	clitest.Want(t, text, "test_draining 1\n")
	if strings.Contains(text, "test_drain_seconds 0\n") ||
		strings.Contains(text, "test_drain_limit_seconds 0\n") {
		t.Error("the drain takes no time, or may take none")
	}
	for {
		select {
		case code := <-exit:
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			return
		default:
			_, _ = tryFetch(metrics) // The first may have come before the drain waited for it.
		}
	}
}
