package s3

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/quartet/internal/porttest"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/enginetest"
	"example.com/quartet/server/object/s3/s3test"
)

func options() Options {
	return Options{PartBytes: smallPart, Quota: &engine.Quota{}, Log: slog.New(slog.DiscardHandler)}
}

func second[A, B any](_ A, b B) B { return b }

// address is where a fake listens.
func address(t *testing.T) string {
	t.Helper()
	service := httptest.NewServer(s3test.New())
	t.Cleanup(service.Close)
	return service.Listener.Addr().String()
}

// setCredentials hides those of the user that runs the tests.
func setCredentials(t testing.TB, access, secret string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "",
		"AWS_PROFILE": "",
		"AWS_REGION":  "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

func TestWhatCannotBeOpenedIsExplainedWithoutSecrets(t *testing.T) {
	service, unused := address(t), porttest.Address(t)
	for what, test := range map[string]struct{ url, want string }{
		"no bucket":   {"s3://?region=us-east-1", "want s3://bucket"},
		"credentials": {"s3://key:hush@quartet?region=us-east-1", "neither credentials"},
		"a path":      {"s3://quartet/folder?region=us-east-1", "nor a path"},
		"unknown parameter": {s3test.URL(service, "quartet") + "&secret=hush",
			"parameter that is not known"},
		"malformed parameter": {"s3://quartet?use_path_style=hush", "use_path_style"},
		"slash in a secret":   {"s3://key:hush/hush@quartet", "cannot be read"},
		"digits and a slash":  {"s3://key:1/hush@quartet", "nor a path"},
		"malformed endpoint": {"s3://quartet?region=us-east-1&endpoint=minio:9000",
			"endpoint has no scheme, expected http://host:port"},
		"port of endpoint": {"s3://quartet?region=us-east-1&endpoint=http://key:hush@h:99999",
			"endpoint has a port that is no number"},
		"no host of endpoint": {"s3://quartet?region=us-east-1&endpoint=http://", "endpoint has no host"},
		"empty endpoint":      {"s3://quartet?region=us-east-1&endpoint=", "endpoint has no scheme"},
		"quoted endpoint": {"s3://quartet?region=us-east-1&endpoint='http://h'",
			"endpoint has quotes"},
		"blank in endpoint": {"s3://quartet?region=us-east-1&endpoint=http://h+h",
			"endpoint has blanks"},
		"endpoint of secrets": {s3test.URL("key:hush@"+service, "other"), "endpoint has credentials"},
		"port of bucket":      {"s3://quartet:7070?region=us-east-1", "want s3://bucket"},
		"separators": {"s3://quartet?region=us-east-1;endpoint=http://h",
			"parameters that cannot be read"},
		"quotes":         {`"s3://quartet"`, "cannot be read"},
		"unknown scheme": {"gs://quartet?key=hush", "no scheme that is known"},
		"no scheme":      {"quartet", "no scheme that is known"},
		"unreadable":     {"s3://key:hush@quartet:port", "cannot be read"},
		"no region":      {"s3://quartet?endpoint=http://" + service, "no region"},
		"unknown bucket": {s3test.URL(service, "other"), "NoSuchBucket"},
		"nothing listens": {s3test.URL(unused, "quartet"), "s3://quartet at http://" + unused +
			": store is unavailable"},
	} {
		t.Run(what, func(t *testing.T) {
			setCredentials(t, testAccessKey, testSecretKey)
			began := time.Now()
			_, err := Open(t.Context(), test.url, options())
			if err == nil || !strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "hush") {
				t.Errorf("error = %v, want one with %q", err, test.want)
			}
			if strings.Contains(test.url, unused) != errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("error = %v is taken for the wrong kind", err)
			}
			if took := time.Since(began); took > openTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestMissingCredentialsAreNoticedAtOnce(t *testing.T) {
	setCredentials(t, "", "")
	_, err := Open(t.Context(), second(newFake(t)), options())
	if err == nil || !strings.Contains(err.Error(),
		"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") {
		t.Errorf("error = %v", err)
	}
}

func TestWrongCredentialsAreNoticedAtOnce(t *testing.T) {
	g := startGateway(t)
	for _, wrong := range [][2]string{{testAccessKey, "hush"}, {"another", "hush"}} {
		setCredentials(t, wrong[0], wrong[1])
		_, err := Open(t.Context(), g.url(), options())
		if err == nil || errors.Is(err, engine.ErrUnavailable) || strings.Contains(err.Error(), "hush") {
			t.Errorf("error = %v", err)
		}
	}
}

func TestAStoreThatDoesNotAnswerIsUnavailable(t *testing.T) {
	f, url := newFake(t)
	s := open(t, url, smallPart)
	f.Before(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		_, _ = io.Copy(io.Discard, r.Body) // Or the server does not notice that its client has gone.
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errSlow)
	defer cancel()
	if _, err := s.put(ctx, "key", nil, "", absent); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.put(ctx, "key", nil, "", absent)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrUnavailable) {
		t.Error("a deadline of the caller is taken for a store that is down")
	}
}

func TestABusyStoreIsUnavailable(t *testing.T) {
	f, url := newFake(t)
	s := open(t, url, smallPart)
	var refusals, requests atomic.Int64
	var status, code = http.StatusServiceUnavailable, "SlowDown"
	f.Before(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		requests.Add(1)
		if refusals.Add(-1) < 0 {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		s3test.Fail(w, status, code)
		return true
	})
	refusals.Store(1)
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("after one refusal: %v", err)
	}
	refusals.Store(100)
	if err := s.Ping(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("after many refusals: %v", err)
	}

	status, code = http.StatusForbidden, "AccessDenied"
	if err := s.Ping(t.Context()); err == nil || errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("access denied: %v", err)
	}
	status, code = http.StatusInsufficientStorage, "InsufficientStorage"
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("a full bucket still serves: %v", err)
	}
	if _, err := enginetest.Put(t.Context(), s, header("n"), nil); !errors.Is(err,
		engine.ErrStoreFull) {
		t.Errorf("a full bucket: %v", err)
	}
	status, code = http.StatusNotFound, "NoSuchBucket"
	if _, err := s.Stat(t.Context(), "n"); err == nil || errors.Is(err, engine.ErrNotFound) {
		t.Errorf("a bucket that is gone: %v", err)
	}
}

// TestWarningsOfTheSDKAreLogged expects the lines of the SDK in the log, of which there may be one
// for each answer.
func TestWarningsOfTheSDKAreLogged(t *testing.T) {
	setCredentials(t, testAccessKey, testSecretKey)
	service, url := newFake(t)
	service.Before(func(w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Date", "soon")
		return false
	})
	var log strings.Builder
	o := options()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if !strings.Contains(log.String(), "level=WARN msg=S3") ||
		!strings.Contains(log.String(), "soon") {
		t.Errorf("the log has %q", &log)
	}
}

// proxied has the hosts that the proxy was asked for which HTTPS_PROXY and HTTP_PROXY name in all
// tests of this package, and as long as they run, because Go reads these variables once.
var proxied = make(chan string, 100)

func startProxy() {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied <- r.Host
		w.WriteHeader(http.StatusForbidden)
	}))
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		_ = os.Setenv(name, proxy.URL) // It fails for malformed names only.
	}
}

// TestAProxyIsAskedFor has services at names that only the proxy could know.
func TestAProxyIsAskedFor(t *testing.T) {
	for _, test := range []struct{ what, url, access, host string }{
		{"http", "s3://b?endpoint=http://s3.test:7070&region=us-east-1&use_path_style=true",
			testAccessKey, "s3.test:7070"},
		{"https", "s3://b?endpoint=https://s3.test:7070&region=us-east-1&use_path_style=true",
			testAccessKey, "s3.test:7070"},
		{"AWS", "s3://bucket?region=nowhere-1", testAccessKey, "bucket.s3.nowhere-1.amazonaws.com:443"},
		{"credentials", "s3://b?endpoint=http://s3.test:7070&region=us-east-1", "", "credentials.test"},
	} {
		for _, proxy := range []bool{false, true} {
			setCredentials(t, test.access, testSecretKey)
			t.Setenv("AWS_MAX_ATTEMPTS", "1") // What looks for credentials goes on after Open has given up.
			if test.access == "" {
				t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
				t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://credentials.test")
			}
			timeout := 500 * time.Millisecond // Where there is no such host, no name server may say so.
			if proxy {
				timeout = 20 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			_, err := Open(ctx, test.url, Options{Proxy: proxy, Log: slog.New(slog.DiscardHandler)})
			cancel()
			hosts := map[string]bool{}
			for len(proxied) > 0 {
				hosts[<-proxied] = true
			}
			if err == nil || hosts[test.host] != proxy || !proxy && len(hosts) > 0 {
				t.Errorf("%s, proxy %t: the proxy was asked for %v: %v", test.what, proxy, hosts, err)
			}
		}
	}
}

// TestWhatTheSDKSaysOfCredentialsIsLogged has a metadata service without tokens.
func TestWhatTheSDKSaysOfCredentialsIsLogged(t *testing.T) {
	machine := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(machine.Close)
	setCredentials(t, "", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
	var log strings.Builder
	_, err := Open(t.Context(), second(newFake(t)),
		Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil || !strings.Contains(log.String(), "level=WARN msg=S3") ||
		!strings.Contains(log.String(), "IMDSv1") {
		t.Errorf("%v, and the log has %q", err, &log)
	}
}
