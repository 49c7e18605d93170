package web_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
)

// TestPermissionsHoldForBrowsersToo denies a client what another one may call, and ends its open
// stream when its own permission is withdrawn.
func TestPermissionsHoldForBrowsersToo(t *testing.T) {
	const alice, mallory = "spiffe://example.com/alice", "spiffe://example.com/mallory"
	file := filepath.Join(t.TempDir(), "permissions.json")
	permit := func(caller string) {
		list := `{"allow": [{"callers": ["uri:` + caller +
			`"], "methods": ["grpc.testing.TestService/*"]}]}`
		next := file + ".next"
		if err := os.WriteFile(next, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
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
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it ends after %s", took)
	}
}
