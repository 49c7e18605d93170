package web_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/token/tokentest"
)

// TestPermissionsHoldForBrowsersToo denies a client what another one may call, and ends its open
// stream when its own permission is withdrawn.
func TestPermissionsHoldForBrowsersToo(t *testing.T) {
	const alice, mallory = "spiffe://example.com/alice", "spiffe://example.com/mallory"
	file := filepath.Join(t.TempDir(), "permissions.json")
	permit := func(caller string) {
		apptest.WritePermissions(t, file, `{"allow": [{"callers": ["uri:`+caller+
			`"], "methods": ["grpc.testing.TestService/*"]}]}`)
	}
	permit(alice)
	authority := apptest.NewAuthority(t)
	held := &service{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := start(t, held, append(authority.Settings(t), "TEST_RPC_PERMISSIONS_FILE="+file)...)
	stream := func(caller string) (*connect.ServerStreamForClient[grpc_testing.StreamingOutputCallResponse], error) {
		transport := &http.Transport{TLSClientConfig: authority.Client(t, caller),
			ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		client := connect.NewClient[grpc_testing.StreamingOutputCallRequest,
			grpc_testing.StreamingOutputCallResponse](
			&http.Client{Transport: transport}, "https://"+s.Web+
				"/grpc.testing.TestService/StreamingOutputCall")
		request := &grpc_testing.StreamingOutputCallRequest{
			ResponseParameters: []*grpc_testing.ResponseParameters{{Size: 1}, {Size: 1}},
		}
		return client.CallServerStream(apptest.Deadline(t), connect.NewRequest(request))
	}

	denied, err := stream(mallory)
	if err == nil {
		for denied.Receive() {
			t.Error("a client without a permission gets a message")
		}
		err = denied.Err()
	}
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a client without a permission gets %v", err)
	}

	open, err := stream(alice)
	if err != nil {
		t.Fatal(err)
	}
	if !open.Receive() {
		t.Fatal(open.Err())
	}
	<-held.entered
	began := time.Now()
	permit(mallory)
	if open.Receive() || connect.CodeOf(open.Err()) != connect.CodePermissionDenied {
		t.Errorf("the open stream ends with %v", open.Err())
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it ends after %s", took)
	}
}

// TestNamesHoldForBrowsersToo denies a call of each protocol that uses the name of another caller,
// and ends the open stream of one whose name is withdrawn.
func TestNamesHoldForBrowsersToo(t *testing.T) {
	issuer := tokentest.New(t)
	file := filepath.Join(t.TempDir(), "permissions.json")
	permit := func(pattern string) {
		apptest.WritePermissions(t, file, `{"allow": [{"callers": ["jwt:`+tokentest.Name+`#alice"],
			"methods": ["*"], "names": {"book": ["`+pattern+`"]}}]}`)
	}
	permit("shop/*")
	held := &service{named: true, entered: make(chan struct{}, 20), release: make(chan struct{})}
	s := startWithTokens(t, held, issuer, file)
	bearer := "Bearer " + issuer.Token(t, "alice")
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			call := func(name string) error {
				request := connect.NewRequest(&grpc_testing.SimpleRequest{
					Payload: &grpc_testing.Payload{Body: []byte(name)},
				})
				request.Header().Set("Authorization", bearer)
				_, err := unaryClient(t, s, p).CallUnary(apptest.Deadline(t), request)
				return err
			}
			if err := call("shop/cart"); err != nil {
				t.Error(err)
			}
			wantError(t, call("shopping/cart"), connect.CodePermissionDenied, "NOT_PERMITTED")
		})
	}
	var open []*connect.ServerStreamForClient[grpc_testing.StreamingOutputCallResponse]
	for _, p := range protocols {
		message := sizes(1, 1)
		message.Payload = &grpc_testing.Payload{Body: []byte("shop/cart")}
		request := connect.NewRequest(message)
		request.Header().Set("Authorization", bearer)
		stream, err := downloadClient(t, s, p).CallServerStream(apptest.Deadline(t), request)
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() {
			t.Fatalf("%s: %v", p.name, stream.Err())
		}
		open = append(open, stream)
	}
	permit("other/*")
	for i, stream := range open {
		if stream.Receive() {
			t.Errorf("%s: the stream goes on", protocols[i].name)
		}
		wantError(t, stream.Err(), connect.CodePermissionDenied, "NOT_PERMITTED")
	}
}
