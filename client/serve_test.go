package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// reserve is an address where nobody listens.
func reserve(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
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
func (c *console) listening(t *testing.T) (addresses struct{ HTTP, Probe string }) {
	t.Helper()
	<-c.err.await(`"msg":"listening"`)
	for line := range strings.Lines(c.err.String()) {
		if strings.Contains(line, `"msg":"listening"`) {
			if err := json.Unmarshal([]byte(line), &addresses); err != nil {
				t.Fatal(err)
			}
		}
	}
	return addresses
}

func TestServe(t *testing.T) {
	server := reserve(t)
	c := &console{environ: []string{
		"QUARTET_LOG_FORMAT=json", "QUARTET_HTTP_ADDRESS=127.0.0.1:0", "QUARTET_PROBE_ADDRESS=127.0.0.1:0",
		"QUARTET_DRAIN_DELAY=1ms", "QUARTET_INSTANCE=test", "QUARTET_WORKLOAD_LOOKUPS=100",
	}}
	ctx, terminate := context.WithCancel(t.Context())
	exit := make(chan int, 1)
	go func() { exit <- c.run(ctx, server, "serve") }()
	at := c.listening(t)
	health := probe(t, at.Probe)

	<-c.err.await("waiting for server")
	for name, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"liveness": healthpb.HealthCheckResponse_SERVING, "readiness": healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		if got, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name}); err != nil || got.Status != want {
			t.Errorf("%s without a server: %v, %v", name, got, err)
		}
	}

	f, _ := startFake(t, server)
	<-c.err.await(`"msg":"ready"`)
	if got, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "readiness"}); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("readiness: %v, %v", got, err)
	}
	want(t, fetch(t, "http://"+at.HTTP+"/metrics"), `quartet_workload_operations_total{mode="bidi",verdict="bad"} 0`)
	want(t, fetch(t, "http://"+at.HTTP+"/debug/pprof/"), "goroutine")

	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.err)
	}
	if len(f.objects) > 0 {
		t.Errorf("left behind: %v", f.objects)
	}
	if n := strings.Count(c.err.String(), "waiting for server"); n != 1 {
		t.Errorf("said %d times that it waits", n)
	}
}

func TestServeStopsWhileItWaits(t *testing.T) {
	c := &console{environ: []string{
		"QUARTET_LOG_FORMAT=json", "QUARTET_HTTP_ADDRESS=127.0.0.1:0", "QUARTET_PROBE_ADDRESS=127.0.0.1:0", "QUARTET_DRAIN_DELAY=0s",
	}}
	ctx, terminate := context.WithCancel(t.Context())
	exit := make(chan int, 1)
	go func() { exit <- c.run(ctx, reserve(t), "serve") }()
	c.listening(t)
	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d\n%s", code, &c.err)
	}
}

// startServe runs a client with an upload under way, which the fake holds. terminate asks it to end.
func startServe(t *testing.T, f *fake, server string) (c *console, exit <-chan int, terminate func()) {
	t.Helper()
	c = &console{environ: []string{
		"QUARTET_LOG_FORMAT=json", "QUARTET_HTTP_ADDRESS=127.0.0.1:0", "QUARTET_PROBE_ADDRESS=127.0.0.1:0",
		"QUARTET_DRAIN_DELAY=0s", "QUARTET_INSTANCE=test", "QUARTET_WORKLOAD_UPLOADS=100",
	}}
	ctx, terminate := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- c.run(ctx, server, "serve") }()
	for range 2 + 1 { // Both signals of the object that is there from the start, the first of the next.
		<-f.hold
	}
	return c, code, terminate
}

func TestOperationsEndInPeaceWhileServersAreThere(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	f.hold = make(chan struct{})
	c, exit, terminate := startServe(t, f, server)
	terminate()
	select {
	case <-c.err.await("are cut"):
	case <-time.After(absence + 500*time.Millisecond):
	}
	<-f.hold
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := c.err.String(); strings.Contains(log, "are cut") || strings.Contains(log, "workload: ") {
		t.Errorf("no peaceful end:\n%s", log)
	}
}

func TestServersThatAreGoneAreNotWaitedFor(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	f.hold = make(chan struct{})
	c, exit, terminate := startServe(t, f, server)
	f.stop()
	began := time.Now()
	terminate()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took < absence || took > 5*time.Second {
		t.Errorf("the drain took %v", took)
	}
	want(t, c.err.String(), `"because":"servers are gone"`)
	if strings.Contains(c.err.String(), "workload: failing") {
		t.Errorf("what was cut was counted as bad:\n%s", &c.err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
