package e2e

import (
	"net/http"
	"testing"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// callFromBrowsers makes the calls of each mode that a kind of client has.
func callFromBrowsers(t *testing.T, e *embedded) {
	b := newBrowser(t, e.release, quartetv1.File_quartet_v1_echo_proto)
	const echo, expand = "quartet.v1.EchoService/Echo", "quartet.v1.EchoService/Expand"
	const wrong = `{"error":{"code":"OUT_OF_RANGE","message":"offset is above the number of words, which is 1","reason":"OUT_OF_RANGE"}}`
	for _, protocol := range []string{"connect", "connect-json", "grpc-web", "grpc-web-json"} {
		b.calls(t, protocol, echo, `[{"text":"hé"}]`, `{"text":"hé"}`)
		b.calls(t, protocol, expand, `[{"text":"a b"}]`, `{"word":"a"}`, `{"word":"b","offset":1}`)
		b.calls(t, protocol, expand, `[{"text":"a","offset":9}]`, wrong)
	}
	b.calls(t, "grpc", echo, `[{"text":"hé"}]`, `{"text":"hé"}`)
	b.calls(t, "grpc", expand, `[{"text":"a b"}]`, `{"word":"a"}`, `{"word":"b","offset":1}`)
	b.calls(t, "grpc", expand, `[{"text":"a","offset":9}]`, wrong)
	b.calls(t, "grpc", "quartet.v1.EchoService/Collect", `[{"word":"a"},{"word":"b"}]`, `{"text":"a b","count":2}`)
	b.calls(t, "grpc", "quartet.v1.EchoService/Chat", `[{"sequence":1,"text":"a"},{"sequence":2,"text":"b"}]`,
		`{"sequence":"1","text":"a"}`, `{"sequence":"2","text":"b"}`)
	b.curl(t, echo, `{"text":"hé"}`, http.StatusOK, `{"text":"hé"}`)
}
