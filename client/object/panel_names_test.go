package object_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/token/tokentest"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// TestPanelUsesTheNamesOfItsClientOnly has people whose client may use one prefix ask for more, by
// HTTP and by tus, also with the address of an upload that another client has begun.
func TestPanelUsesTheNamesOfItsClientOnly(t *testing.T) {
	issuer, permissions := tokentest.New(t), filepath.Join(t.TempDir(), "permissions.json")
	rule := func(subject, pattern string) apptest.Rule {
		return apptest.Rule{Callers: []string{"jwt:" + tokentest.Name + "#" + subject},
			Methods: []string{"*"}, Names: map[string][]string{"object": {pattern}}}
	}
	apptest.Permit(t, permissions, rule("shop", "shop/*"), rule("other", "*"))
	server := processtest.Start(t, append(small, process.Setting("RPC_TOKEN_PLAINTEXT", "true"),
		process.Setting("RPC_TOKEN_ISSUER", tokentest.Name),
		process.Setting("RPC_TOKEN_AUDIENCE", tokentest.Audience),
		process.Setting("RPC_TOKEN_JWKS_FILE", issuer.File),
		process.Setting("RPC_PERMISSIONS_FILE", permissions))...)
	as := func(subject string) *panel {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(issuer.Token(t, subject)), 0o600); err != nil {
			t.Fatal(err)
		}
		var cfg rpc.ClientConfig
		if err := config.Load("TEST_", []string{"TEST_TOKEN_FILE=" + file, "TEST_TOKEN_PLAINTEXT=true"},
			config.Group{Into: &cfg}); err != nil {
			t.Fatal(err)
		}
		conn, err := rpc.NewClient(cfg, telemetry.Discard(), server.Address,
			[]protoreflect.ServiceDescriptor{objectService()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return panelBy(t, conn)
	}
	shop, other := as("shop"), as("other")
	content := clienttest.Random(3, 3<<20)
	shop.put("shop/a", content)
	other.put("shopping/a", content)

	tus := map[string]string{"Tus-Resumable": "1.0.0"}
	wants := func(code int, method, address string, header map[string]string) {
		t.Helper()
		r, b := shop.do(method, address, nil, header)
		wantCode(t, r, b, code)
		if strings.Contains(string(b), "shopping") {
			t.Errorf("%s %s tells the name: %s", method, address, b)
		}
	}
	wants(http.StatusOK, "GET", shop.object("shop/a"), nil)
	wants(http.StatusOK, "GET", shop.api+"objects/?prefix=shop/", nil)
	wants(http.StatusForbidden, "GET", shop.api+"objects/?prefix=shop", nil)
	wants(http.StatusForbidden, "GET", shop.api+"objects/", nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		wants(http.StatusForbidden, method, shop.object("shopping/a"), nil)
		wants(http.StatusForbidden, method, shop.object("shopping/b"), nil)
	}

	shop.create(len(content), meta("filename", "shopping/b"), http.StatusForbidden)
	at := shop.create(len(content), meta("filename", "shop/b"), http.StatusCreated)
	if r, b, err := shop.patch(at, 0, bytes.NewReader(content), nil); err != nil ||
		r.StatusCode != http.StatusNoContent {
		t.Errorf("%v %s %v", r, b, err)
	}
	begun := other.create(len(content), meta("filename", "shopping/b"), http.StatusCreated)
	if r, b, err := other.patch(begun, 0, bytes.NewReader(content[:2<<20]), nil); err != nil ||
		r.StatusCode != http.StatusNoContent {
		t.Fatalf("%v %s %v", r, b, err)
	}
	at = shop.api + "uploads/" + begun[strings.LastIndex(begun, "/")+1:]
	wants(http.StatusForbidden, "HEAD", at, tus)
	wants(http.StatusForbidden, "DELETE", at, tus)
	if r, b, err := shop.patch(at, 2<<20, bytes.NewReader(content[2<<20:]), nil); err != nil ||
		r.StatusCode != http.StatusForbidden {
		t.Errorf("%v %s %v", r, b, err)
	}
	offset := other.offset(begun)
	if r, b, err := other.patch(begun, offset, bytes.NewReader(content[offset:]), nil); err != nil ||
		r.StatusCode != http.StatusNoContent {
		t.Errorf("%v %s %v", r, b, err)
	}
	if r, b := other.do("GET", other.object("shopping/b"), nil, nil); !bytes.Equal(b, content) {
		t.Errorf("%s with %d bytes", r.Status, len(b))
	}
}
