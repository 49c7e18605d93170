package console_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheConsoleReplacesServersForATokenThatMayWrite has a stand-in for the API of Kubernetes.
func TestTheConsoleReplacesServersForATokenThatMayWrite(t *testing.T) {
	const path = "/apis/apps/v1/namespaces/shop/deployments/shop-server"
	var patches []string
	answer := http.StatusOK
	kubernetes := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPatch || r.URL.Path != path ||
			r.Header.Get("Content-Type") != "application/strategic-merge-patch+json" ||
			r.Header.Get("Authorization") != "Bearer of-the-pod" {
			t.Errorf("%s %s %v, %v", r.Method, r.URL.Path, r.Header, err)
		}
		patches = append(patches, string(body))
		w.WriteHeader(answer)
		fmt.Fprint(w, `{"kind":"Status","message":"its role does not allow that"}`)
	}))
	defer kubernetes.Close()
	folder := t.TempDir()
	authority := pem.EncodeToMemory(
		&pem.Block{Type: "CERTIFICATE", Bytes: kubernetes.Certificate().Raw})
	for name, content := range map[string][]byte{"ca.crt": authority, "token": []byte("of-the-pod\n")} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "TEST_CONSOLE_TOKEN=all", "TEST_CONSOLE_READ_TOKEN=some",
		"TEST_CONSOLE_ROLLOUT_URL="+kubernetes.URL+path, "TEST_CONSOLE_ROLLOUT_CREDENTIALS="+folder)
	answer = http.StatusForbidden
	if status, text := s.replace(t, "all", ""); status != http.StatusBadGateway ||
		!strings.Contains(text, "its role does not allow that") {
		t.Errorf("%d %s", status, text)
	}
	token := filepath.Join(folder, "token")
	if err := os.Rename(token, token+"-away"); err != nil {
		t.Fatal(err)
	}
	if status, text := s.replace(t, "all", ""); status != http.StatusBadGateway ||
		!strings.Contains(text, "token: no such file") {
		t.Errorf("%d %s", status, text)
	}
	if err := os.Rename(token+"-away", token); err != nil {
		t.Fatal(err)
	}
	answer, patches = http.StatusOK, nil
	if status, text := s.replace(t, "all", ""); status != http.StatusNoContent {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.replace(t, "all", ""); status != http.StatusTooManyRequests {
		t.Errorf("a second one at once: %d %s", status, text)
	}
	if len(patches) != 1 ||
		!strings.HasPrefix(patches[0], `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2`) {
		t.Errorf("patched with %q", patches)
	}
	for _, refused := range []struct {
		token, origin string
		status        int
	}{
		{"some", "", http.StatusForbidden},
		{"", "", http.StatusUnauthorized},
		{"all", "http://evil.example", http.StatusForbidden},
	} {
		status, text := s.replace(t, refused.token, refused.origin)
		if status != refused.status || len(patches) != 1 {
			t.Errorf("%+v: %d %s, and %d patches", refused, status, text, len(patches))
		}
	}
}

func TestNothingReplacesServersUnlessItIsConfigured(t *testing.T) {
	s := start(t)
	if status, text := s.replace(t, "", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("%d %s", status, text)
	}
}

// replace presses the button.
func (s *stage) replace(t *testing.T, token, origin string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://"+s.address+"/api/rollout", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if origin != "" {
		request.Header.Set("Origin", origin)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
