package telemetry

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// collector answers exports as a test says.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	export func(context.Context) error
}

func (c *collector) Export(
	ctx context.Context,
	_ *coltracepb.ExportTraceServiceRequest,
) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, c.export(ctx)
}

// collect starts a collector and returns its address.
func collect(t *testing.T, export func(context.Context) error) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, &collector{export: export})
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + lis.Addr().String()
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// fate is what became of the spans so far.
type fate struct{ exported, failed, dropped, pending float64 }

func (s *spans) fate() fate {
	return fate{
		testutil.ToFloat64(s.exported),
		testutil.ToFloat64(s.failed),
		testutil.ToFloat64(s.dropped),
		float64(s.pending.Load()),
	}
}

// exporting is telemetry that sends its spans to endpoint.
func exporting(t *testing.T, endpoint string) *Telemetry {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	telemetry := New(Identity{"test", "client", "v0"}, Config{LogFormat: "json"}, &bytes.Buffer{})
	telemetry.Export(t.Context(), getenv)
	return telemetry
}

func TestSpansAreCountedByTheirFate(t *testing.T) {
	const calls = 20
	for name, test := range map[string]struct {
		export func(context.Context) error
		want   fate
	}{
		"taken":   {func(context.Context) error { return nil }, fate{exported: calls}},
		"refused": {func(context.Context) error { return status.Error(codes.InvalidArgument, "no") }, fate{failed: calls}},
	} {
		t.Run(name, func(t *testing.T) {
			telemetry := exporting(t, collect(t, test.export))
			p := start(t, &service{}, Discard(), telemetry)
			for range calls {
				if err := p.callUnary(testContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			if err := telemetry.Shutdown(testContext(t)); err != nil {
				t.Error(err)
			}
			if got := telemetry.spans.fate(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestDeadCollectorCostsNothing makes calls while no collector listens, and
// while one accepts and never answers. It expects the calls to succeed without
// waiting, no more spans to be kept than the queue has room for, the others to
// be counted, and Shutdown to give up when it is told.
func TestDeadCollectorCostsNothing(t *testing.T) {
	const calls, queue = 200, 32
	for name, endpoint := range map[string]string{"absent": "http://127.0.0.1:1", "hangs": collect(t, hang)} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
			telemetry := exporting(t, endpoint)
			p := start(t, &service{}, Discard(), telemetry)
			began := time.Now()
			for range calls {
				if err := p.callUnary(testContext(t)); err != nil {
					t.Fatal(err)
				}
				if pending := telemetry.spans.fate().pending; pending > queue {
					t.Fatalf("%v spans are kept", pending)
				}
			}
			// An export takes ten seconds to fail.
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the calls took %s", took)
			}
			want := fate{pending: queue, dropped: calls - queue}
			if got := telemetry.spans.fate(); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			giveUp(t, telemetry)
			want = fate{failed: queue, dropped: calls - queue}
			waitUntil(t, t.Context(), func() bool { return telemetry.spans.fate() == want })
		})
	}
}

// giveUp expects that Shutdown ends when it is told, and says what it could not
// do.
func giveUp(t *testing.T, telemetry *Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := telemetry.Shutdown(ctx); err == nil {
		t.Error("no collector got the spans")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Shutdown took %s", took)
	}
}
