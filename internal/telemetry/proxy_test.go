package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// proxiedTests are all tests of this package, which have a forward proxy.
type proxiedTests struct{ *testing.M }

// Run runs them.
func (m proxiedTests) Run() int {
	stop := useForwardProxy()
	defer stop() // Before goroutines that are left are looked for.
	return m.M.Run()
}

// proxied has what the forward proxy was asked, while a test looks.
var proxied atomic.Pointer[chan string]

// useForwardProxy starts what HTTPS_PROXY and HTTP_PROXY name in all tests of this package: Go
// reads them once. It refuses everything, and is stopped by the function that is returned.
func useForwardProxy() (stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		_ = os.Setenv(name, "http://"+listener.Addr().String()) // It fails for malformed names only.
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked := proxied.Load(); asked != nil {
				*asked <- r.Method + " " + r.RequestURI
			}
			w.WriteHeader(http.StatusForbidden)
		}),
	}
	go func() { _ = server.Serve(listener) }() // Until it is closed.
	return func() { _ = server.Close() }
}

// TestCollectorsAreReachedThroughAProxyOnlyIfAsked has a collector at a name that only the proxy
// could know.
func TestCollectorsAreReachedThroughAProxyOnlyIfAsked(t *testing.T) {
	asked := make(chan string, 100)
	proxied.Store(&asked)
	defer proxied.Store(nil)
	for i, test := range []struct {
		protocol string
		proxy    bool
		want     []string // with HOST for that of the collector
	}{
		{protocol: overGRPC},
		{protocol: overHTTP},
		{overGRPC, true, []string{"CONNECT HOST"}},
		{overHTTP, true, []string{"POST http://HOST/v1/metrics", "POST http://HOST/v1/traces"}},
	} {
		// Each has a name of its own, so that a late request of one is not taken for one of the next.
		host := fmt.Sprintf("collector-%d.test:4317", i)
		setenv(
			t,
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://"+host,
			"OTEL_EXPORTER_OTLP_PROTOCOL="+test.protocol,
			"OTEL_METRICS_EXPORTER=otlp",
		)
		telemetry := New(
			Identity{"test", "shop-server", "v1"},
			Config{LogFormat: "json", Proxy: test.proxy},
			new(bytes.Buffer),
		)
		telemetry.Export(t.Context(), getenv)
		_, span := telemetry.Tracer.Start(t.Context(), "span")
		span.End()
		limit := 500 * time.Millisecond
		if test.proxy { // The exporters have to get as far as to ask it.
			limit = 5 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_ = telemetry.Shutdown(ctx) // There is no collector.
		cancel()
		var got []string
		for len(asked) > 0 {
			if what := <-asked; strings.Contains(what, host) {
				got = append(got, strings.ReplaceAll(what, host, "HOST"))
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, test.want) {
			t.Errorf("%s, proxy %t: asked to %q", test.protocol, test.proxy, got)
		}
	}
}
