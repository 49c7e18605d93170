package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/propagation"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// getenv is the environment, from which the SDK of OpenTelemetry reads too.
var getenv = os.Getenv //nolint:forbidigo // The tests set it.

// anyURL is for tests that have no other.
func anyURL(string) error { return nil }

// setenv sets variables, "A=1", for a test. "_" stands for a blank.
func setenv(t *testing.T, variables ...string) {
	t.Helper()
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, strings.ReplaceAll(value, "_", " "))
	}
}

// otlp is a collector of traces and metrics that keeps what it gets, by gRPC and by HTTP.
type otlp struct {
	mu      sync.Mutex
	traces  []*coltracepb.ExportTraceServiceRequest
	metrics []*colmetricspb.ExportMetricsServiceRequest
}

type (
	traceService struct {
		coltracepb.UnimplementedTraceServiceServer
		*otlp
	}
	metricsService struct {
		colmetricspb.UnimplementedMetricsServiceServer
		*otlp
	}
)

func (s traceService) Export(
	_ context.Context,
	r *coltracepb.ExportTraceServiceRequest,
) (*coltracepb.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traces = append(s.traces, r)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (s metricsService) Export(
	_ context.Context,
	r *colmetricspb.ExportMetricsServiceRequest,
) (*colmetricspb.ExportMetricsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics = append(s.metrics, r)
	return &colmetricspb.ExportMetricsServiceResponse{}, nil
}

// serveGRPC and serveHTTP return the endpoint.
func (c *otlp) serveGRPC(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, traceService{otlp: c})
	colmetricspb.RegisterMetricsServiceServer(server, metricsService{otlp: c})
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	return "http://" + lis.Addr().String()
}

func (c *otlp) serveHTTP(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(_ http.ResponseWriter, r *http.Request) {
		var request coltracepb.ExportTraceServiceRequest
		decode(t, r, &request)
		_, _ = traceService{otlp: c}.Export(r.Context(), &request)
	})
	mux.HandleFunc("POST /v1/metrics", func(_ http.ResponseWriter, r *http.Request) {
		var request colmetricspb.ExportMetricsServiceRequest
		decode(t, r, &request)
		_, _ = metricsService{otlp: c}.Export(r.Context(), &request)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func decode(t *testing.T, r *http.Request, into proto.Message) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("%v: %v", r.Header, err)
	}
}

// spans is how many the collector has, and the resource of the last.
func (c *otlp) spans() (count int, res map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.traces {
		for _, group := range r.GetResourceSpans() {
			res = texts(group.GetResource().GetAttributes())
			for _, scope := range group.GetScopeSpans() {
				count += len(scope.GetSpans())
			}
		}
	}
	return count, res
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, kv := range attributes {
		all[kv.GetKey()] = kv.GetValue().GetStringValue()
	}
	return all
}

// pushed are the numbers of the last export, by name and labels, and what it says of the process.
func (c *otlp) pushed() (numbers map[string]float64, res map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.metrics) == 0 {
		return nil, nil
	}
	numbers = map[string]float64{}
	for _, group := range c.metrics[len(c.metrics)-1].GetResourceMetrics() {
		res = texts(group.GetResource().GetAttributes())
		for _, scope := range group.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				addPushed(numbers, m)
			}
		}
	}
	return numbers, res
}

func addPushed(numbers map[string]float64, m *metricspb.Metric) {
	for _, point := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
		name := seriesName(m.GetName(), texts(point.GetAttributes()))
		if numbers[name] = point.GetAsDouble(); len(point.GetExemplars()) > 0 {
			numbers[name+" with an exemplar"] = 1 // Which no collector takes from the bridge.
		}
	}
	for _, point := range m.GetHistogram().GetDataPoints() {
		name := seriesName(m.GetName(), texts(point.GetAttributes()))
		numbers[name+" count"], numbers[name+" sum"] = float64(point.GetCount()), point.GetSum()
		var cumulative uint64
		for i, bound := range append(point.GetExplicitBounds(), math.Inf(1)) {
			cumulative += point.GetBucketCounts()[i]
			numbers[fmt.Sprintf("%s le %v", name, bound)] = float64(cumulative)
		}
	}
	for _, point := range m.GetSummary().GetDataPoints() {
		name := seriesName(m.GetName(), texts(point.GetAttributes()))
		numbers[name+" count"], numbers[name+" sum"] = float64(point.GetCount()), point.GetSum()
	}
}

// scraped are the same numbers in the registry.
func scraped(t *testing.T, telemetry *Telemetry) map[string]float64 {
	t.Helper()
	families, err := telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			addScraped(numbers, family.GetName(), m)
		}
	}
	return numbers
}

func addScraped(numbers map[string]float64, family string, m *dto.Metric) {
	labels := map[string]string{}
	for _, label := range m.GetLabel() {
		labels[label.GetName()] = label.GetValue()
	}
	name := seriesName(family, labels)
	switch {
	case m.Histogram != nil:
		h := m.GetHistogram()
		numbers[name+" count"], numbers[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
		numbers[name+" le +Inf"] = float64(h.GetSampleCount())
		for _, bucket := range h.GetBucket() {
			numbers[fmt.Sprintf("%s le %v", name, bucket.GetUpperBound())] = float64(
				bucket.GetCumulativeCount(),
			)
		}
	case m.Summary != nil:
		numbers[name+" count"], numbers[name+" sum"] = float64(
			m.GetSummary().GetSampleCount(),
		), m.GetSummary().GetSampleSum()
	default:
		numbers[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
}

func seriesName(name string, labels map[string]string) string {
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		name += fmt.Sprintf("{%s=%s}", label, labels[label])
	}
	return name
}

// configured is telemetry that exports what the environment asks for, with its log.
func configured(t *testing.T) (*Telemetry, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	telemetry := New(Identity{"test", "shop-server", "v1"}, Config{LogFormat: "json"}, &log)
	for name, value := range telemetry.Sanitize(getenv, anyURL) {
		t.Setenv(name, value)
	}
	telemetry.Export(t.Context(), getenv)
	return telemetry, &log
}

// exportCalls makes a call in each mode and ends the export.
func exportCalls(t *testing.T, telemetry *Telemetry) {
	t.Helper()
	p := start(t, &service{}, telemetry, Discard())
	for _, mode := range modes {
		if err := mode.call(p, testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	p.settle()
	if err := telemetry.Shutdown(testContext(t)); err != nil {
		t.Error(err)
	}
}

// TestWhatIsExported names the collectors that get something, by the variables of OpenTelemetry.
func TestWhatIsExported(t *testing.T) {
	for _, test := range []struct {
		variables    string // GRPC and HTTP stand for the endpoints
		traces, push string
		warnings     int
	}{
		{"", "", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=GRPC", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=GRPC", "", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "HTTP", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "HTTP", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "", "", 1},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_PROTOCOL=grpc,http/protobuf", "", "", 1},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_PROTOCOL=HTTP/Protobuf", "HTTP", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_EXPORTER_OTLP_PROTOCOL=_ OTEL_TRACES_EXPORTER=_ OTEL_SDK_DISABLED=_", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_SDK_DISABLED=true OTEL_METRICS_EXPORTER=otlp", "", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_SDK_DISABLED=True", "", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_SDK_DISABLED=false", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_SDK_DISABLED=1", "GRPC", "", 1},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_TRACES_EXPORTER=none", "", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_TRACES_EXPORTER=otlp", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_TRACES_EXPORTER=zipkin", "", "", 1},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_TRACES_EXPORTER=console,otlp", "GRPC", "", 1},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_METRICS_EXPORTER=otlp", "GRPC", "GRPC", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_METRICS_EXPORTER=prometheus", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_METRICS_EXPORTER=none", "GRPC", "", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_METRICS_EXPORTER=statsd OTEL_LOGS_EXPORTER=otlp", "GRPC", "", 2},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=GRPC OTEL_METRICS_EXPORTER=otlp", "", "GRPC", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_METRICS_EXPORTER=otlp", "HTTP", "HTTP", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=HTTP/v1/metrics OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf OTEL_METRICS_EXPORTER=otlp", "GRPC", "HTTP", 0},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_TRACES_EXPORTER=none OTEL_METRICS_EXPORTER=otlp", "", "GRPC", 0},
	} {
		t.Run(test.variables, func(t *testing.T) {
			collectors := map[string]*otlp{"GRPC": {}, "HTTP": {}}
			setenv(
				t,
				strings.Fields(
					strings.NewReplacer(
						"=GRPC",
						"="+collectors["GRPC"].serveGRPC(t),
						"=HTTP ",
						"="+collectors["HTTP"].serveHTTP(t)+" ",
						"=HTTP/v1",
						"="+collectors["HTTP"].serveHTTP(t)+"/v1",
					).Replace(
						test.variables,
					),
				)...)
			telemetry, log := configured(t)
			exportCalls(t, telemetry)
			for name, c := range collectors {
				if spans, _ := c.spans(); (spans == len(modes)) != (name == test.traces) ||
					spans > 0 && name != test.traces {
					t.Errorf("%s has %d spans", name, spans)
				}
				if numbers, _ := c.pushed(); (len(numbers) > 0) != (name == test.push) {
					t.Errorf("%s has %d numbers", name, len(numbers))
				}
			}
			got := strings.Count(log.String(), `"level":"WARN"`)
			if got != test.warnings || got > 0 && !strings.Contains(log.String(), "supported") {
				t.Errorf("%d warnings, want %d: %s", got, test.warnings, log)
			}
		})
	}
}

// TestPushedAndScrapedNumbersAgree compares everything that a call leaves behind. What the runtime
// tells changes all the time.
func TestPushedAndScrapedNumbersAgree(t *testing.T) {
	for name, serve := range map[string]func(*otlp, *testing.T) string{
		overGRPC: (*otlp).serveGRPC, overHTTP: (*otlp).serveHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			var c otlp
			setenv(
				t,
				"OTEL_EXPORTER_OTLP_ENDPOINT="+serve(&c, t),
				"OTEL_EXPORTER_OTLP_PROTOCOL="+name,
				"OTEL_METRICS_EXPORTER=otlp",
				"OTEL_SERVICE_NAME=renamed",
				"OTEL_RESOURCE_ATTRIBUTES=team=a",
				"OTEL_METRIC_EXPORT_INTERVAL=50",
			)
			telemetry, log := configured(t)
			p := start(t, &service{}, telemetry, Discard())
			for _, mode := range modes {
				if err := mode.call(p, testContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			p.settle()
			handled := "grpc_server_handled_total{grpc_code=OK}{grpc_fault=}{grpc_method=UnaryCall}{grpc_service=" + testServiceName + "}{grpc_type=unary}"
			waitUntil(t, t.Context(), func() bool { numbers, _ := c.pushed(); return numbers[handled] == 1 })
			if err := telemetry.Shutdown(testContext(t)); err != nil {
				t.Error(err)
			}
			want := scraped(t, telemetry)
			got, res := c.pushed()
			if len(got) != len(want) {
				t.Errorf("%d numbers were pushed, %d are scraped", len(got), len(want))
			}
			for series, number := range want {
				pushed, found := got[series]
				changing := strings.HasPrefix(series, "go_") || strings.HasPrefix(series, "process_") ||
					strings.HasPrefix(series, "test_spans_")
				if !found || pushed != number && !changing {
					t.Errorf("%s is %v (%t) and %v", series, pushed, found, number)
				}
			}
			if res["service.name"] != "renamed" || res["team"] != "a" || res["service.version"] != "v1" {
				t.Errorf("the process is %v", res)
			}
			if log.Len() > 0 {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

func TestMalformedResourceAttributesCostOnlyThemselves(t *testing.T) {
	for _, test := range []struct {
		attributes string
		want       map[string]string
		warns      bool
	}{
		{"team", nil, true},
		{"team=a,", map[string]string{"team": "a"}, true},
		{"owner=a,b", map[string]string{"owner": "a"}, true},
		{"x,owner=a,,y", map[string]string{"owner": "a"}, true},
		{"=a,owner=b", map[string]string{"owner": "b"}, true},
		{"owner=%ff,team=a", map[string]string{"owner": "\uFFFD", "team": "a"}, false},
		{"owner=%zz,team=a", map[string]string{"owner": "%zz", "team": "a"}, true},
		{"owner=\xff", map[string]string{"owner": "\uFFFD"}, false},
		{"owner=a%2Cb", map[string]string{"owner": "a,b"}, false},
	} {
		t.Run(test.attributes, func(t *testing.T) {
			var c otlp
			setenv(
				t,
				"OTEL_EXPORTER_OTLP_ENDPOINT="+c.serveGRPC(t),
				"OTEL_RESOURCE_ATTRIBUTES="+test.attributes,
			)
			telemetry, log := configured(t)
			exportCalls(t, telemetry)
			count, res := c.spans()
			if count != len(modes) || res["service.name"] != "shop-server" {
				t.Errorf("%d spans of %v", count, res)
			}
			for key, value := range test.want {
				if res[key] != value {
					t.Errorf("%s is %q, want %q", key, res[key], value)
				}
			}
			if got := strings.Count(log.String(), "OTEL_RESOURCE_ATTRIBUTES"); got > 1 ||
				(got == 1) != test.warns {
				t.Errorf("the log has %q", log)
			}
		})
	}
}

func TestNonsenseForTheQueueOfSpansCountsAsNotSet(t *testing.T) {
	for _, variable := range []string{"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT"} {
		for _, value := range []string{"-1", "0", "many", "9223372036854775807", "99999999999999999999", "1e3", "5s"} {
			t.Run(variable+"="+value, func(t *testing.T) {
				var c otlp
				setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.serveGRPC(t), variable+"="+value)
				telemetry, log := configured(t)
				if telemetry.spans.limit != 2048 {
					t.Errorf("%d spans may wait", telemetry.spans.limit)
				}
				exportCalls(t, telemetry)
				if count, _ := c.spans(); count != len(modes) {
					t.Errorf("%d spans", count)
				}
				if written := lines(t, log); len(written) != 1 || written[0]["variable"] != variable ||
					written[0]["value"] != value {
					t.Errorf("the log has %s", log)
				}
			})
		}
	}
}

func TestPropagatorsAreHonoured(t *testing.T) {
	for value, want := range map[string][]string{
		"":             {"traceparent", "tracestate", "baggage"},
		"tracecontext": {"traceparent", "tracestate"},
		"baggage":      {"baggage"},
		"none":         nil,
		"b3":           {"traceparent", "tracestate", "baggage"},
	} {
		t.Setenv("OTEL_PROPAGATORS", value)
		telemetry, _ := configured(t)
		got := telemetry.Propagator.Fields()
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%q: %v", value, got)
		}
		carrier := propagation.HeaderCarrier{}
		ctx, _ := unsampledParent(t)
		if telemetry.Propagator.Inject(ctx, carrier); (len(metadata.MD(carrier)) == 0) != (want == nil) {
			t.Errorf("%q: a call carries %v", value, carrier)
		}
	}
}

// TestADeadCollectorOfMetricsCostsNothing expects that the end of the process is not held up.
func TestADeadCollectorOfMetricsCostsNothing(t *testing.T) {
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=otlp")
	telemetry, _ := configured(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := telemetry.Shutdown(ctx); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
