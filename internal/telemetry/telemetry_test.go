package telemetry

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandlerServesOpenMetrics(t *testing.T) {
	telemetry := New(Identity{"test", "server", "v1.2.3"}, Config{LogFormat: "text"}, &bytes.Buffer{})
	telemetry.NewServerCalls(testService())
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response := httptest.NewRecorder()
	telemetry.Handler().ServeHTTP(response, request)
	if got := response.Header().Get("Content-Type"); !strings.HasPrefix(got,
		"application/openmetrics-text") {
		t.Errorf("content type is %q", got)
	}
	for _, want := range []string{
		`test_build_info{goversion="go`, `service="server",version="v1.2.3"} 1`, "go_goroutines", "process_open_fds",
		`grpc_server_handled_total{grpc_code="Internal",grpc_fault="",grpc_method="UnaryCall",grpc_service="grpc.testing.TestService",grpc_type="unary"} 0`,
	} {
		if !strings.Contains(response.Body.String(), want) {
			t.Errorf("no %s in the answer", want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (Config{LogFormat: "xml"}).Validate(); err == nil ||
		!strings.HasPrefix(err.Error(), "LOG_FORMAT") {
		t.Errorf("got %v", err)
	}
}
