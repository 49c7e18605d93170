package store

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// forwardProxy is what HTTPS_PROXY and HTTP_PROXY name in all tests of this package: Go reads them once. It answers only in the
// test of it.
var forwardProxy net.Listener

func useForwardProxy() {
	var err error
	if forwardProxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		_ = os.Setenv(name, "http://"+forwardProxy.Addr().String()) // It fails for malformed names only.
	}
}

// TestAProxyIsAskedFor has services at names that only the proxy could know.
func TestAProxyIsAskedFor(t *testing.T) {
	asked := make(chan string, 100)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Host
		w.WriteHeader(http.StatusForbidden)
	})}
	go func() { _ = server.Serve(forwardProxy) }() // Until it is closed.
	t.Cleanup(func() { _ = server.Close() })

	for _, test := range []struct{ what, url, access, host string }{
		{"http", "s3://b?endpoint=http://s3.test:7070&region=us-east-1&use_path_style=true", testAccessKey, "s3.test:7070"},
		{"https", "s3://b?endpoint=https://s3.test:7070&region=us-east-1&use_path_style=true", testAccessKey, "s3.test:7070"},
		{"AWS", "s3://bucket?region=nowhere-1", testAccessKey, "bucket.s3.nowhere-1.amazonaws.com:443"},
		{"a role", "s3://b?endpoint=http://s3.test:7070&region=nowhere-1&role=arn:aws:iam::1:role/r", testAccessKey, "sts.nowhere-1.amazonaws.com:443"},
		{"credentials", "s3://b?endpoint=http://s3.test:7070&region=us-east-1", "", "credentials.test"},
	} {
		for _, proxy := range []bool{false, true} {
			setCredentials(t, test.access, testSecretKey)
			t.Setenv("AWS_MAX_ATTEMPTS", "1") // What looks for credentials goes on after Open has given up.
			if test.access == "" {
				t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
				t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://credentials.test")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err := Open(ctx, test.url, Options{Proxy: proxy})
			cancel()
			hosts := map[string]bool{}
			for len(asked) > 0 {
				hosts[<-asked] = true
			}
			if err == nil || hosts[test.host] != proxy || !proxy && len(hosts) > 0 {
				t.Errorf("%s, proxy %t: the proxy was asked for %v: %v", test.what, proxy, hosts, err)
			}
		}
	}
}

// TestWhatTheSDKSaysOfCredentialsIsLogged has a machine that knows no tokens for its metadata.
func TestWhatTheSDKSaysOfCredentialsIsLogged(t *testing.T) {
	machine := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(machine.Close)
	for _, parameters := range []string{"", "&role=arn:aws:iam::1:role/r"} {
		setCredentials(t, "", "")
		t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
		var log strings.Builder
		_, err := Open(t.Context(), newFakeS3(t).url()+parameters, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil || !strings.Contains(log.String(), "level=WARN msg=S3") || !strings.Contains(log.String(), "IMDSv1") {
			t.Errorf("%v, and the log has %q", err, &log)
		}
	}
}
