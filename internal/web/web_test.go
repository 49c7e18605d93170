package web_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// TestTheModesThatBrowsersHave are unary calls and server streams, by every protocol and format.
func TestTheModesThatBrowsersHave(t *testing.T) {
	s := start(t, &service{})
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			ctx := apptest.Deadline(t)
			call, stream := unaryClient(t, s, p), downloadClient(t, s, p)
			for _, size := range []int{0, 1, 70_000} {
				response, err := call.CallUnary(ctx,
					connect.NewRequest(&grpc_testing.SimpleRequest{Payload: payload(size)}))
				if err != nil || len(response.Msg.GetPayload().GetBody()) != size {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			sorry := &grpc_testing.EchoStatus{Code: 1, Message: "of what?"}
			_,
				err := call.CallUnary(ctx,
				connect.NewRequest(&grpc_testing.SimpleRequest{ResponseStatus: sorry}))
			wantError(t, err, connect.CodeFailedPrecondition, "SORRY")

			deadline, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err = call.CallUnary(deadline,
				connect.NewRequest(&grpc_testing.SimpleRequest{FillUsername: true}))
			wantError(t, err, connect.CodeDeadlineExceeded, "")

			request := sizes(0, 10, 200_000)
			request.ResponseStatus = sorry
			messages, err := stream.CallServerStream(ctx, connect.NewRequest(request))
			if err != nil {
				t.Fatal(err)
			}
			defer messages.Close()
			for _, parameters := range request.GetResponseParameters() {
				if !messages.Receive() ||
					len(messages.Msg().GetPayload().GetBody()) != int(parameters.GetSize()) {
					t.Fatalf("%d bytes of %d: %v", len(messages.Msg().GetPayload().GetBody()),
						parameters.GetSize(), messages.Err())
				}
			}
			if messages.Receive() {
				t.Error("there is more")
			}
			wantError(t, messages.Err(), connect.CodeFailedPrecondition, "SORRY")
		})
	}
}

// TestTheOtherModesByHTTP2 are those that programs have, not browsers; a client stream works by
// HTTP/1.1 too.
func TestTheOtherModesByHTTP2(t *testing.T) {
	s := start(t, &service{})
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			ctx := apptest.Deadline(t)
			sending := clientOf[grpc_testing.StreamingInputCallRequest,
				grpc_testing.StreamingInputCallResponse](t, s, p, upload).CallClientStream(ctx)
			for range 5 {
				if err := sending.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(50_000)}); err != nil {
					t.Fatal(err)
				}
			}
			response, err := sending.CloseAndReceive()
			if err != nil || response.Msg.GetAggregatedPayloadSize() != 250_000 {
				t.Errorf("got %v: %v", response, err)
			}
			if !p.h2c {
				return
			}
			both := clientOf[grpc_testing.StreamingOutputCallRequest,
				grpc_testing.StreamingOutputCallResponse](t, s, p, talk).CallBidiStream(ctx)
			for i := range 5 {
				if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(i * 1000)}); err != nil {
					t.Fatal(err)
				}
				if answer, err := both.Receive(); err != nil || len(answer.GetPayload().GetBody()) != i*1000 {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			if err := both.CloseRequest(); err != nil {
				t.Error(err)
			}
			if _, err := both.Receive(); err == nil || !strings.Contains(err.Error(), "EOF") {
				t.Errorf("after the half-close: %v", err)
			}
			_ = both.CloseResponse()
		})
	}
}

// TestPlainJSON is what curl sends: no header but the content type.
func TestPlainJSON(t *testing.T) {
	s := start(t, &service{})
	client := over(t, false, local)
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8",
		"application/json;charset=UTF-8"} {
		response, answer := post(t, client, s, unary, contentType,
			strings.NewReader(`{"payload": {"body": "aGVsbG8="}, "newer": 1}`))
		if response.StatusCode != http.StatusOK || !strings.Contains(answer, "aGVsbG8=") {
			t.Errorf("%s: %d %q", contentType, response.StatusCode, answer)
		}
	}
	response, answer := post(t, client, s, unary, "application/json",
		strings.NewReader(`{"responseStatus": {"code": 1}}`))
	if response.StatusCode != http.StatusBadRequest || !strings.Contains(answer, "SORRY") {
		t.Errorf("%d %q", response.StatusCode, answer)
	}
	wantJSON(t, answer, "code", "failed_precondition")
	_, answer = post(t, client, s, "/grpc.health.v1.Health/Check", "application/json",
		strings.NewReader(`{}`))
	wantJSON(t, answer, "status", "SERVING")
	response, answer = post(t, client, s, unary, "application/json",
		strings.NewReader(`{"fillUsername": true}`), "Connect-Timeout-Ms", "20")
	if response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%d %q", response.StatusCode, answer)
	}
	for _, name := range []string{"UnaryCall"} {
		if got := handled(t, s, name, "OK"); got != 3 {
			t.Errorf("%v calls of %s are counted", got, name)
		}
	}
}

// TestWhatIsNoCall has requests that reach no method.
func TestWhatIsNoCall(t *testing.T) {
	const expected = `{"code":"unimplemented","message":"expected a Content-Type of Connect (application/json,`
	s := start(t, &service{})
	for name, test := range map[string]struct {
		verb, path, contentType string
		status                  int
		says                    string
	}{
		"a page": {"GET", "/", "", 405, "calls are POST requests"},
		"a call by GET": {"GET", unary + "?connect=v1&encoding=json&message={}", "", 405,
			"calls are POST requests"},
		"an unknown method": {"POST", methods + "Nothing", "application/json", 404,
			`"unimplemented"`},
		"an unknown service": {"POST", "/no.Such/Service", "application/connect+json", 404,
			`"unimplemented"`},
		"no method": {"POST", "/", "application/grpc-web", 404, `"unimplemented"`},
		"a stream of plain JSON": {"POST", download, "application/json", 415,
			`"unimplemented","message":"stream type`},
		"an unknown format": {"POST", unary, "application/yaml", 415, expected},
		"an unknown format of stream": {"POST", download, "application/connect+yaml", 415,
			`"unimplemented","message":"\"yaml\" sub-format not supported"`},
		"the text of gRPC-Web":  {"POST", unary, "application/grpc-web-text", 415, expected},
		"a form":                {"POST", unary, "application/x-www-form-urlencoded", 415, expected},
		"plain text":            {"POST", unary, "text/plain;charset=UTF-8", 415, expected},
		"no format":             {"POST", unary, "", 415, expected},
		"plain text for health": {"POST", "/grpc.health.v1.Health/Check", "text/plain", 415, expected},
		"both ways by HTTP 1.1": {"POST", talk, "application/connect+json", 505, `"unimplemented"`},
		"gRPC by HTTP 1.1":      {"POST", unary, "application/grpc", 505, `"unimplemented"`},
		"an unknown method of no protocol": {"POST", methods + "Nothing", "text/plain", 404,
			`"message":"unknown method`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(apptest.Deadline(t), test.verb, "http://"+s.Web+test.path,
				strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			response, err := over(t, false, local).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			answer, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || !strings.Contains(string(answer), test.says) {
				t.Errorf("got %d %q", response.StatusCode, answer)
			}
		})
	}
	for method, want := range map[string]float64{"other": 4, "UnaryCall": 6,
		"StreamingOutputCall": 2, "FullDuplexCall": 1, "Check": 1} {
		if got := handled(t, s, method, "Unimplemented"); got != want {
			t.Errorf("%v calls of %s are counted as refused, want %v", got, method, want)
		}
	}
	if found := failures(t, s); found != nil {
		t.Errorf("these count as failures of the server: %v", found)
	}
}

// TestTheLineOfARefusalNamesItsCaller has requests refused that become no call of gRPC.
func TestTheLineOfARefusalNamesItsCaller(t *testing.T) {
	tel, log := logged()
	s := startWith(t, tel, &service{})
	client := over(t, false, local)
	for contentType, headers := range map[string][]string{
		"text/plain":               nil,
		"application/connect+yaml": nil,
		"application/json":         {"X-Data-Bin", "!"},
	} {
		_, _ = post(t, client, s, unary, contentType, strings.NewReader("{}"), headers...)
	}
	refused := 0
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "served call") {
			continue
		}
		refused++
		if !strings.Contains(line, "peer="+local+":") || !strings.Contains(line, "level=DEBUG") {
			t.Error(line)
		}
	}
	if refused != 3 {
		t.Errorf("%d lines in\n%s", refused, log)
	}
}

// TestOrigins has pages of an allowed and of another origin call, and programs, which have none.
func TestOrigins(t *testing.T) {
	listed := start(t, &service{},
		"TEST_WEB_ALLOWED_ORIGINS=https://shop.example.com, http://localhost:3000")
	none, all := start(t, &service{}), start(t, &service{}, "TEST_WEB_ALLOWED_ORIGINS=*")
	for name, test := range map[string]struct {
		server       *apptest.Server
		origin, site string
		allowed      bool // by CORS, which is the browser's to heed
		served       bool
	}{
		"listed":                  {listed, "https://shop.example.com", "cross-site", true, true},
		"listed with a port":      {listed, "http://localhost:3000", "same-site", true, true},
		"another":                 {listed, "https://evil.example.com", "cross-site", false, false},
		"another, an old browser": {listed, "https://evil.example.com", "", false, false},
		"another port":            {listed, "http://localhost:3001", "same-site", false, false},
		"a prefix": {listed, "https://shop.example.com.evil.com", "cross-site", false,
			false},
		"a sandboxed page":         {listed, "null", "cross-site", false, false},
		"the same origin":          {none, "", "same-origin", false, true},
		"no list":                  {none, "https://shop.example.com", "cross-site", false, false},
		"all":                      {all, "https://anything.example.com", "cross-site", true, true},
		"a program":                {none, "", "", false, true},
		"a program beside a list":  {listed, "", "", false, true},
		"the same, an old browser": {none, "http://" + none.Web, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			headers := []string{}
			if test.origin != "" {
				headers = append(headers, "Origin", test.origin)
			}
			if test.site != "" {
				headers = append(headers, "Sec-Fetch-Site", test.site)
			}
			client := over(t, false, local)
			response, answer := post(t, client, test.server, unary, "application/json",
				strings.NewReader("{}"), headers...)
			if (response.StatusCode == http.StatusOK) != test.served ||
				!test.served && response.StatusCode != http.StatusForbidden {
				t.Errorf("got %d %q", response.StatusCode, answer)
			}
			if got := response.Header.Get("Access-Control-Allow-Origin"); (got == test.origin &&
				got != "") != test.allowed || got != "" && !test.allowed {
				t.Errorf("the allowed origin is %q", got)
			}
			if test.origin == "" {
				return
			}
			r, err := http.NewRequestWithContext(apptest.Deadline(t), http.MethodOptions, "http://"+
				test.server.Web+unary, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", test.origin)
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers",
				"connect-protocol-version,content-type,traceparent")
			preflight, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer preflight.Body.Close()
			allowed := preflight.StatusCode == http.StatusNoContent &&
				preflight.Header.Get("Access-Control-Allow-Origin") == test.origin &&
				preflight.Header.Get("Access-Control-Allow-Methods") == "POST" &&
				preflight.Header.Get("Access-Control-Allow-Headers") == "connect-protocol-version,content-type,traceparent"
			if allowed != test.allowed {
				t.Errorf("the preflight got %d %v", preflight.StatusCode, preflight.Header)
			}
		})
	}
}

// TestAPageElsewhereCannotPointItsNameHere has pages call that have the host of the request in
// their origin, as one has whose owner has its name resolve to the server (DNS rebinding).
func TestAPageElsewhereCannotPointItsNameHere(t *testing.T) {
	const shop = "TEST_WEB_ALLOWED_ORIGINS=https://shop.example.com"
	none, listed := start(t, &service{}), start(t, &service{}, shop)
	all := start(t, &service{}, "TEST_WEB_ALLOWED_ORIGINS=*")
	folder := t.TempDir()
	pool := x509.NewCertPool()
	pool.AddCert(selfSigned(t, folder).Leaf)
	secured := start(t, &service{}, "TEST_RPC_TLS_MODE=tls", "TEST_RPC_TLS_CERT_FILE="+folder+
		"/cert.pem", "TEST_RPC_TLS_KEY_FILE="+folder+"/key.pem")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	plaintext, byTLS := over(t, false, local), &http.Client{Transport: transport}
	for name, test := range map[string]struct {
		server             *apptest.Server
		host, origin, site string
		served             bool
	}{
		"another name":               {none, "evil.example:8080", "http://evil.example:8080", "", false},
		"a newer browser":            {none, "evil.example", "http://evil.example", "same-origin", false},
		"no Origin":                  {none, "evil.example", "", "same-origin", false},
		"another name beside a list": {listed, "evil.example", "http://evil.example", "", false},
		"a name of the list":         {listed, "shop.example.com", "http://shop.example.com", "", true},
		"a page of the list":         {listed, "api.internal", "https://shop.example.com", "", true},
		"every page may call":        {all, "evil.example", "http://evil.example", "", true},
		"a port-forward":             {none, "localhost:9000", "http://localhost:9000", "same-origin", true},
		"an address of a node":       {none, "192.0.2.1:30080", "http://192.0.2.1:30080", "", true},
		"a program by a name":        {none, "server.shop.svc:8080", "", "", true},
		"a name that TLS has shown":  {secured, "shop.example.com", "https://shop.example.com", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			client, scheme := plaintext, "http://"
			if test.server == secured {
				client, scheme = byTLS, "https://"
			}
			r, err := http.NewRequestWithContext(apptest.Deadline(t), http.MethodPost,
				scheme+test.server.Web+unary, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = test.host
			r.Header.Set("Content-Type", "application/json")
			for header, value := range map[string]string{"Origin": test.origin, "Sec-Fetch-Site": test.site} {
				if value != "" {
					r.Header.Set(header, value)
				}
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			want := http.StatusOK
			if !test.served {
				want = http.StatusForbidden
			}
			if response.StatusCode != want {
				t.Errorf("got %d, want %d", response.StatusCode, want)
			}
		})
	}
}

// TestWhatCallersSendWrong has an answer for each mistake, with the code that the main port has for
// it.
func TestWhatCallersSendWrong(t *testing.T) {
	s := start(t, &service{})
	envelope := func(flag byte, length int, data string) string {
		return string([]byte{flag, byte(length >> 24), byte(length >> 16), byte(length >> 8),
			byte(length)}) + data
	}
	tooLarge := `{"payload": {"body": "` + strings.Repeat("x", 100_000) + `"}}`
	for name, test := range map[string]struct {
		method, contentType, body string
		chunked                   bool
		headers                   []string
		code, says                string
	}{
		"too large": {unary, "application/json", tooLarge, false, nil,
			"resource_exhausted", "100000 bytes"},
		"too large, no length": {unary, "application/json", tooLarge, true, nil,
			"resource_exhausted", "Content-Length"},
		"too large in protobuf": {unary, "application/proto", tooLarge, false, nil,
			"resource_exhausted", "100000 bytes"},
		"a stream's too large": {download, "application/connect+json", envelope(0, 2<<20, "{"),
			false, nil, "resource_exhausted", "4096 bytes"},
		"no JSON": {unary, "application/json", "{]", false, nil, "invalid_argument",
			"UNDECODABLE"},
		"no protobuf": {unary, "application/proto", "\xff", false, nil,
			"invalid_argument", "UNDECODABLE"},
		"a stream's no JSON": {download, "application/connect+json", envelope(0, 2, "{]"), false,
			nil, "invalid_argument", "UNDECODABLE"},
		"half a message": {download, "application/connect+json", envelope(0, 9, "{"), false,
			nil, "internal", "middle of a message"},
		"half a prefix": {download, "application/connect+json", "\x00\x00", false, nil,
			"internal", "middle of a message"},
		"no message": {download, "application/connect+json", "", false, nil, "internal",
			"ended before its request"},
		"two messages": {download, "application/connect+json", envelope(0, 2, "{}") +
			envelope(0, 2, "{}"), false, nil, "internal", "more than one request"},
		"an unknown flag": {download, "application/connect+json", envelope(2, 2, "{}"), false,
			nil, "invalid_argument", "flag 2"},
		"an unknown flag behind": {upload, "application/connect+json", envelope(0, 2, "{}") +
			envelope(0x80, 2, "{}"), false, nil, "invalid_argument", "flag 128"},
		"compressed": {unary, "application/json", "gzip", false,
			[]string{"Content-Encoding", "gzip"}, "unimplemented", "not accepted"},
		"compressed, an unknown name": {unary, "application/json", "br", false,
			[]string{"Content-Encoding", "br"}, "unimplemented", "not supported"},
		"a stream compressed, an unknown name": {download, "application/connect+json", "br", false,
			[]string{"Connect-Content-Encoding", "br"}, "unimplemented", "not supported"},
		"an encoding of another protocol": {download, "application/connect+json", "gzip", false,
			[]string{"Content-Encoding", "gzip"}, "unimplemented", "not allowed"},
		"a deadline that is none": {unary, "application/json", "{}", false,
			[]string{"Connect-Timeout-Ms", "soon"}, "invalid_argument",
			`Connect-Timeout-Ms is \"soon\", expected milliseconds`},
		"a deadline that has passed": {unary, "application/proto", "", false,
			[]string{"Connect-Timeout-Ms", "-1"}, "invalid_argument", "expected milliseconds"},
		"a stream's deadline that is none": {download, "application/connect+json",
			envelope(0, 2, "{}"), false, []string{"Connect-Timeout-Ms", "1s"}, "invalid_argument",
			"expected milliseconds"},
		"no time": {unary, "application/json", "{}", false, []string{"Connect-Timeout-Ms", "0"},
			"deadline_exceeded", ""},
	} {
		for _, h2c := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, h2c %t", name, h2c), func(t *testing.T) {
				var body io.Reader = bytes.NewReader([]byte(test.body))
				if test.chunked {
					body = struct{ io.Reader }{body}
				}
				_, answer := post(t, over(t, h2c, local), s, test.method, test.contentType, body,
					test.headers...)
				if !strings.Contains(answer, test.says) ||
					!strings.Contains(answer, `"`+test.code) && test.code != "" {
					t.Errorf("got %q", answer)
				}
			})
		}
	}
	if found := failures(t, s); found != nil {
		t.Errorf("these count as failures of the server: %v", found)
	}
}

// TestADeadlineThatIsNone is refused in the words of each protocol, and counted.
func TestADeadlineThatIsNone(t *testing.T) {
	s := start(t, &service{})
	for i, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			header := "Connect-Timeout-Ms"
			if strings.HasPrefix(p.name, "gRPC") {
				header = "Grpc-Timeout"
			}
			request := connect.NewRequest(&grpc_testing.SimpleRequest{})
			request.Header().Set(header, "5 minutes")
			// The client sets the header by itself if its context has a deadline.
			_, err := unaryClient(t, s, p).CallUnary(t.Context(), request)
			wantError(t, err, connect.CodeInvalidArgument, "")
			if err != nil && !strings.Contains(err.Error(), header+` is "5 minutes", expected `) {
				t.Error(err)
			}
			if got := handled(t, s, "UnaryCall", "InvalidArgument"); got != float64(i+1) {
				t.Errorf("%v calls are counted", got)
			}
		})
	}
}

// TestADeadlineMayBeLong has the longest ones that each protocol can say.
func TestADeadlineMayBeLong(t *testing.T) {
	s := start(t, &service{})
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			header, values := "Connect-Timeout-Ms", []string{"9999999999", "9007199254740991"}
			if strings.HasPrefix(p.name, "gRPC") {
				header, values = "Grpc-Timeout", []string{"8H", "9H", "99999999H", "99999999S"}
			}
			for _, value := range values {
				request := connect.NewRequest(&grpc_testing.SimpleRequest{})
				request.Header().Set(header, value)
				if _, err := unaryClient(t, s, p).CallUnary(t.Context(), request); err != nil {
					t.Errorf("%s: %v", value, err)
				}
			}
		})
	}
}

// garbled is a service whose reply has text that is not UTF-8.
type garbled struct{ service }

func (garbled) UnaryCall(
	context.Context, *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Username: "\xff"}, nil
}

// TestAReplyThatIsNoJSONCountsAsAFailure expects the server to count what its caller gets.
func TestAReplyThatIsNoJSONCountsAsAFailure(t *testing.T) {
	guest := app.Service{Name: "guest", Open: func(context.Context, app.Host) (app.Opened, error) {
		return app.Opened{Service: rpc.Service{Register: func(r grpc.ServiceRegistrar) {
			grpc_testing.RegisterTestServiceServer(r, &garbled{})
		}}}, nil
	}}
	s := apptest.Start(t, telemetry.Discard(), []app.Service{guest}, "TEST_WEB_ADDRESS=127.0.0.1:0")
	response, answer := post(t, over(t, false, local), s, unary, "application/json",
		strings.NewReader("{}"))
	if response.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %s, %s", response.Status, answer)
	}
	wantJSON(t, answer, "code", "internal")
	eventually(t, "the call is counted", func() bool {
		return handled(t, s, "UnaryCall", "Internal") == 1
	})
}
