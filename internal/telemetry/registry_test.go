package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// rpcFamilies are the names that docs/telemetry.md promises, for each kind of
// method that has them.
var rpcFamilies = map[string][]kind{
	"grpc_SIDE_started_total":            kinds,
	"grpc_SIDE_handled_total":            kinds,
	"grpc_SIDE_handling_seconds":         kinds,
	"grpc_SIDE_in_flight":                kinds,
	"grpc_SIDE_msg_received_total":       kinds,
	"grpc_SIDE_msg_sent_total":           kinds,
	"grpc_SIDE_msg_received_bytes_total": kinds,
	"grpc_SIDE_msg_sent_bytes_total":     kinds,
	"grpc_SIDE_first_message_seconds":    {serverStream, bidiStream},
	"grpc_SIDE_message_gap_seconds":      {clientStream, serverStream, bidiStream},
	"grpc_server_arrived_total":          kinds,
	"grpc_server_retried_total":          kinds,
}

// TestEverythingIsThereAtZero looks for every metric of every method before the
// first call, on both sides.
func TestEverythingIsThereAtZero(t *testing.T) {
	telemetry := Discard()
	telemetry.NewServerCalls(testService())
	telemetry.NewClientCalls(testService())
	found := series(t, telemetry)
	for i := range testService().Methods().Len() {
		md := testService().Methods().Get(i)
		k := kindOf(md.IsStreamingClient(), md.IsStreamingServer())
		for _, side := range []string{"server", "client"} {
			for family, kinds := range rpcFamilies {
				key := fmt.Sprintf("%s %s %s", strings.Replace(family, "SIDE", side, 1), k, md.Name())
				if metrics := found[key]; (len(metrics) > 0) != slices.Contains(kinds, k) || !areZero(metrics) {
					t.Errorf("%s: %v", key, metrics)
				}
			}
		}
	}
	for _, name := range []string{
		"grpc_server_connections", "grpc_server_connections_opened_total", "grpc_client_connections", "grpc_client_connections_opened_total",
		"test_spans_exported_total", "test_spans_failed_total", "test_spans_dropped_total",
		"test_draining", "test_drain_seconds", "test_drain_limit_seconds",
	} {
		if metrics := found[name+"  "]; len(metrics) != 1 || !areZero(metrics) {
			t.Errorf("%s: %v", name, metrics)
		}
	}
}

// series are all metrics by name, type and method.
func series(t *testing.T, telemetry *Telemetry) map[string][]*dto.Metric {
	t.Helper()
	families, err := telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]*dto.Metric{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			key := fmt.Sprintf("%s %s %s", family.GetName(), labels["grpc_type"], labels["grpc_method"])
			found[key] = append(found[key], metric)
		}
	}
	return found
}

func areZero(metrics []*dto.Metric) bool {
	return !slices.ContainsFunc(metrics, func(m *dto.Metric) bool {
		return m.GetCounter().GetValue() != 0 || m.GetGauge().GetValue() != 0 ||
			m.GetHistogram().GetSampleCount() != 0
	})
}

// TestSeriesDoNotGrow calls from several peers, with names and codes that the
// callers invent, and expects no series that was not there after the first.
func TestSeriesDoNotGrow(t *testing.T) {
	s := &service{
		unary: func(_ context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			return nil, status.Error(codes.Code(r.GetResponseSize()), "a code of its own")
		},
	}
	p := start(t, s, Discard(), Discard())
	count := func() (server, client int) {
		return len(flat(series(t, p.server))), len(flat(series(t, p.client)))
	}
	invent := func(conn *grpc.ClientConn, i int) {
		_, _ = grpc_testing.NewTestServiceClient(
			conn,
		).UnaryCall(
			testContext(t),
			&grpc_testing.SimpleRequest{ResponseSize: int32(100 + i)},
		)
		method := fmt.Sprintf("/invented.Service%d/Method", i)
		if err := conn.Invoke(testContext(t), method, &grpc_testing.Empty{},
			&grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
	}
	invent(p.conn, 0)
	server, client := count()
	for i := range 10 {
		invent(p.conn, i)
		invent(p.from(t, fmt.Sprintf("127.0.0.%d", i+1)), i)
	}
	if s, c := count(); s != server || c != client {
		t.Errorf("the server has %d series and then %d, the client %d and then %d", server, s, client, c)
	}
}

func flat(found map[string][]*dto.Metric) []*dto.Metric {
	return slices.Concat(slices.Collect(maps.Values(found))...)
}

// from is another connection of the client, from another address.
func (p *pair) from(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	calls := p.client.NewClientCalls(testService())
	conn, err := grpc.NewClient(p.conn.Target(),
		grpc.WithTransportCredentials(p.client.CountClientConnections(insecure.NewCredentials())),
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", target)
		}),
		grpc.WithChainUnaryInterceptor(calls.UnaryInterceptor))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestTheRuntimeCanBeWatched lists what a dashboard of a Go process asks for.
func TestTheRuntimeCanBeWatched(t *testing.T) {
	telemetry := New(Identity{"test", "server", "v1"}, Config{LogFormat: "text"}, &bytes.Buffer{})
	found := series(t, telemetry)
	for _, name := range []string{
		"go_goroutines", "go_memstats_heap_inuse_bytes", "go_gc_duration_seconds", "go_gc_gomemlimit_bytes",
		"go_sched_gomaxprocs_threads", "go_sched_latencies_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes",
		"process_open_fds", "process_start_time_seconds", "test_build_info",
	} {
		if len(found[name+"  "]) == 0 {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestWaitsForAProcessorHaveTheBoundThatTheAlertAsksFor fails if a version of Go or of the library
// has other buckets, in which case rules, dashboards and runbook need another bound.
func TestWaitsForAProcessorHaveTheBoundThatTheAlertAsksFor(t *testing.T) {
	families, err := New(Identity{"test", "server", "v1"}, Config{LogFormat: "text"},
		&bytes.Buffer{}).Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var bounds []float64
	for _, family := range families {
		if family.GetName() == "go_sched_latencies_seconds" {
			for _, bucket := range family.GetMetric()[0].GetHistogram().GetBucket() {
				bounds = append(bounds, bucket.GetUpperBound())
			}
		}
	}
	if !slices.Contains(bounds, 0.010485759999999998) {
		t.Errorf("the bounds are %v", bounds)
	}
}
