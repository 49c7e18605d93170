package telemetry

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHandlerServesOpenMetrics(t *testing.T) {
	telemetry, err := New(t.Context(), "server", "v1.2.3", Config{LogFormat: "text"}, false, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	telemetry.NewServerCalls(testService())
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response := httptest.NewRecorder()
	telemetry.Handler().ServeHTTP(response, request)
	if got := response.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("content type is %q", got)
	}
	for _, want := range []string{
		`quartet_build_info{goversion="go`, `service="server",version="v1.2.3"} 1`, "go_goroutines", "process_open_fds",
		`grpc_server_handled_total{grpc_code="Internal",grpc_method="UnaryCall",grpc_service="grpc.testing.TestService",grpc_type="unary"} 0`,
	} {
		if !strings.Contains(response.Body.String(), want) {
			t.Errorf("no %s in the answer", want)
		}
	}
}

// TestDeadCollectorCostsNothing makes calls while no collector listens, and
// expects Shutdown to give up when it is told.
func TestDeadCollectorCostsNothing(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	telemetry, err := New(t.Context(), "client", "v0", Config{LogFormat: "json"}, true, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, &service{}, Discard(), telemetry)
	for range 100 {
		if err := p.callUnary(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := telemetry.Shutdown(ctx); err == nil {
		t.Error("the spans were exported to nobody")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Shutdown took %s", took)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{LogFormat: "xml"}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "LOG_FORMAT") {
		t.Errorf("got %v", err)
	}
}
