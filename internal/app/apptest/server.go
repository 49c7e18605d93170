// Package apptest runs servers within tests: the host with some services, on loopback ports of its
// own, and a client that has no interceptors, retries or resumes. What such a client sees is what
// the server does.
package apptest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/telemetry"
)

// Identity is the product in tests. Its variables begin with TEST_, its metrics with test_.
var Identity = app.Identity{Name: "test"}

// Server is a server that runs.
type Server struct {
	// Conn is a connection without any comfort.
	Conn *grpc.ClientConn
	// Address, Probe and HTTP are where it answers.
	Address, Probe, HTTP string
	// Web is where it answers browsers, "" without TEST_WEB_ADDRESS.
	Web       string
	Telemetry *telemetry.Telemetry
	// Stop drains the server as SIGTERM does, and returns the error of the drain. Only the first call
	// does something.
	Stop func() error
}

// Environ is what servers of tests run with. The variables in more win.
func Environ(more ...string) []string {
	// Port 0 makes tests independent of each other, and no test waits for endpoints to be removed. The
	// last entry of a name counts, so that more wins.
	return append([]string{
		"TEST_GRPC_ADDRESS=127.0.0.1:0",
		"TEST_PROBE_ADDRESS=127.0.0.1:0",
		"TEST_HTTP_ADDRESS=127.0.0.1:0",
		"TEST_DRAIN_DELAY=0s",
		"TEST_DRAIN_BUDGET=15s",
	}, more...)
}

// Start starts a server with the services, which the test may look at by t. It ends with the test,
// and has to do so well.
func Start(
	tb testing.TB,
	t *telemetry.Telemetry,
	services []app.Service,
	environ ...string,
) *Server {
	tb.Helper()
	// The server runs in the process of the test, by its own listeners.
	running, err := app.Server{
		Identity: Identity,
		Version:  "test",
		Services: services,
	}.Open(
		tb.Context(),
		Environ(environ...),
		t,
	)
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Telemetry: t}
	s.Address, s.Probe, s.HTTP = running.Addresses()
	s.Web = running.WebAddress()
	// It is not the context of the test, which ends before the cleanup: Stop has to begin the drain.
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.Serve(ctx) }()
	// The client has neither interceptors nor a service config, so that no retry hides an error.
	s.Conn, err = grpc.NewClient(
		s.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	)
	if err != nil {
		tb.Fatal(err)
	}
	stopped := false
	s.Stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	// The connection is closed first, so that a stream that the test left open does not hold up the
	// drain until its deadline.
	tb.Cleanup(func() {
		_ = s.Conn.Close()
		if err := s.Stop(); err != nil {
			tb.Errorf("drain: %v", err)
		}
	})
	return s
}

// Deadline is a context for calls that must not hang a test.
func Deadline(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// WantStatus checks the code of an error and the reason in its details, and returns the metadata
// beside it.
func WantStatus(tb testing.TB, err error, code codes.Code, reason string) map[string]string {
	tb.Helper()
	if status.Code(err) != code {
		tb.Fatalf("got %v, want code %v", err, code)
	}
	// At most one ErrorInfo is expected; the domain says that it is ours and not of a proxy.
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if info.GetReason() != reason || info.GetDomain() != Identity.ErrorDomain() {
				tb.Fatalf(
					"got reason %s of %s, want %s of %s: %v",
					info.GetReason(),
					info.GetDomain(),
					reason,
					Identity.ErrorDomain(),
					err,
				)
			}
			return info.GetMetadata()
		}
	}
	if reason != "" {
		tb.Fatalf("got %v without a reason, want %s", err, reason)
	}
	return nil
}

// Numbers are the series of the product in a registry, without the namespace and with the values of
// their labels in braces: "backend_up{object}". A histogram counts as the number of its
// observations.
func Numbers(tb testing.TB, t *telemetry.Telemetry) map[string]float64 {
	tb.Helper()
	families, err := t.Registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if name, ours := strings.CutPrefix(family.GetName(), t.Namespace+"_"); ours {
			for _, m := range family.GetMetric() {
				// A metric has one of these; the others are 0.
				all[series(name, m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(
					m.GetHistogram().GetSampleCount(),
				)
			}
		}
	}
	return all
}

// series is the name of a metric with the values of its labels, which the registry sorts by their
// names. An empty label is none, as to Prometheus.
func series(name string, m *dto.Metric) string {
	for _, label := range m.GetLabel() {
		if label.GetValue() != "" {
			name += fmt.Sprintf("{%s}", label.GetValue())
		}
	}
	return name
}

// WantNumbers waits for numbers, since a server counts after it has answered.
func WantNumbers(tb testing.TB, t *telemetry.Telemetry, want map[string]float64) {
	tb.Helper()
	for name, value := range want {
		var got float64
		Eventually(tb, func() bool {
			var found bool
			got, found = Numbers(tb, t)[name]
			return found && got == value
		}, func() string { return fmt.Sprintf("%s is %v, want %v", name, got, value) })
	}
}

// Eventually waits until a condition holds, 20 s at most, and fails the test with the problem
// otherwise.
func Eventually(tb testing.TB, condition func() bool, problem func() string) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(end) {
			tb.Fatal(problem())
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // Between two looks at a condition.
	}
}
