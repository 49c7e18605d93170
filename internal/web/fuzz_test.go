package web_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"example.com/quartet/internal/app/apptest"
)

// FuzzRequests sends requests to the web port: whatever their headers and body are, there is an
// answer within the deadline, which is none of a server's fault. Only that a message was cut off is
// INTERNAL, as everywhere in gRPC.
func FuzzRequests(f *testing.F) {
	plain := []byte(`{"payload": {"body": "aGVsbG8="}}`)
	for _, r := range []struct {
		path, contentType, name, value string
		body                           []byte
	}{
		{unary, "application/json", "Connect-Timeout-Ms", "1000", plain},
		{unary, "application/json; charset=utf-8", "Connect-Timeout-Ms", "-1", plain},
		{unary, "application/json", "Connect-Timeout-Ms", "99999999999", plain},
		{unary, "application/proto", "Content-Encoding", "gzip", []byte{10, 0}},
		{unary, "application/proto", "Connect-Content-Encoding", "br", []byte{0xff}},
		{unary, "application/grpc-web+proto", "Grpc-Timeout", "1n", []byte{0, 0, 0, 0, 0}},
		{unary, "application/grpc-web+proto", "Grpc-Timeout", "99999999H", []byte{0, 0, 0, 0, 2, 10, 0}},
		{unary, "application/grpc-web+json", "Grpc-Encoding", "gzip", []byte{1, 0, 0, 0, 1, 0}},
		{unary, "application/grpc-web+json", "X-Encoding", "gzip", []byte{1, 0, 0, 0, 1, 0}},
		{download, "application/connect+json", "Connect-Protocol-Version", "2",
			append([]byte{0, 0, 0, 0, 2}, "{}"...)},
		{download, "application/connect+proto", "Origin", "https://elsewhere.example.com",
			[]byte{2, 0, 0, 0, 0}},
		{upload, "application/connect+proto", "X-Data-Bin", "!", []byte{0, 255, 255, 255, 255}},
		{upload, "application/grpc", "Te", "trailers", []byte{0, 0, 0, 0, 0}},
		{"/grpc.health.v1.Health/Check", "application/json", "Traceparent", "00-zz",
			[]byte(`{"service": "x"}`)},
		{methods + "Nothing", "application/json", "Accept-Encoding", "identity;q=0", nil},
	} {
		f.Add(r.path, r.contentType, r.name, r.value, r.body)
	}
	s := start(f, &service{})
	client := over(f, false, local)
	f.Fuzz(func(t *testing.T, path, contentType, name, value string, body []byte) {
		if !strings.HasPrefix(path, "/") || !httpguts.ValidHeaderFieldName(name) ||
			!httpguts.ValidHeaderFieldValue(value) || !httpguts.ValidHeaderFieldValue(contentType) {
			return // HTTP does not carry it.
		}
		request, err := http.NewRequestWithContext(apptest.Deadline(t), http.MethodPost, "http://"+s.Web,
			bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Path = path
		request.Header.Set("Content-Type", contentType)
		request.Header.Set(name, value)
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s, %s, %s: %s, %q: %v", path, contentType, name, value, body, err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Errorf("%s, %s, %s: %s, %q: %v", path, contentType, name, value, body, err)
		}
		switch response.StatusCode {
		case http.StatusNotImplemented, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
			http.StatusHTTPVersionNotSupported:
			return // UNIMPLEMENTED, a limit, a deadline, and gRPC over HTTP/1.1
		}
		said := response.Header.Get("Grpc-Message") + string(answer)
		fault := response.StatusCode >= http.StatusInternalServerError ||
			response.Header.Get("Grpc-Status") == "13" || strings.Contains(said, `"internal"`)
		// INTERNAL is what gRPC's specification has for a message with a flag that its headers do not
		// explain.
		flag := strings.Contains(said, "the headers name no encoding") || strings.Contains(said, "unknown flag")
		if fault && !flag && !strings.Contains(said, "the call ended") && !bytes.Contains(body, []byte("tatus")) {
			t.Errorf("%s, %s, %s: %s, %q: %d %q", path, contentType, name, value, body, response.StatusCode,
				answer)
		}
	})
}
