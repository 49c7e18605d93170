// Package telemetry gives a process its logs, metrics and traces, and puts
// them around every RPC. It sets no process-wide default: what needs the
// logger, the registry or the tracer is handed it.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Config is what an operator chooses about telemetry. The rest comes from the
// variables that OpenTelemetry defines (OTEL_EXPORTER_OTLP_ENDPOINT,
// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and their like), which its SDK reads.
type Config struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" desc:"least severe level to log: debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"text" desc:"text for people, json for machines"`
	// TraceTrust needs a sampler: without traces it has no effect.
	TraceTrust Trust `env:"TRACE_TRUST" envDefault:"mtls" desc:"whose decision to record a trace is followed: that of all peers, of those with a verified certificate (mtls), or of none"`
	Proxy      bool  `env:"OTLP_PROXY" envDefault:"false" desc:"reach the collector through the proxy that HTTPS_PROXY or HTTP_PROXY names, unless NO_PROXY excepts it"`
}

// Validate refuses a format that does not exist.
func (c Config) Validate() error {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("LOG_FORMAT=%q: is neither text nor json", c.LogFormat)
	}
	return nil
}

// Identity names a process in what it tells.
type Identity struct {
	// Namespace begins the names of the product's own metrics and span attributes: "shop" in
	// shop_build_info.
	Namespace string
	// Service is service.name in traces: "shop-server".
	Service string
	// Version is that of the build.
	Version string
}

// Telemetry is one process's logger, registry and tracer.
type Telemetry struct {
	// Namespace begins the names of the product's own metrics and span attributes, without an
	// underscore.
	Namespace string
	Log       *slog.Logger
	// Registry has all metrics; those of gRPC have no prefix there, so that dashboards for them work.
	Registry *prometheus.Registry
	// Metrics registers in Registry, and puts the namespace and an underscore before every name.
	Metrics prometheus.Registerer
	// Tracer makes spans, and Propagator takes traces from and puts them into metadata. Export sets
	// both.
	Tracer     trace.Tracer
	Propagator propagation.TextMapPropagator

	// quietCalls leaves out the line of each call, see QuietCalls.
	quietCalls bool
	trust      Trust
	proxied    bool     // whether the collector is reached through a proxy
	sampler    *sampler // nil before Export, and where no span is exported
	// server and client are the metrics of calls, for all servers and all clients of the process.
	server, client *callMetrics
	spans          *spans
	drain          *drain
	// Pointers and channels, so that copies such as that of QuietCalls share them.
	awaiting *atomic.Bool  // AwaitScrape has been called
	scraped  chan struct{} // takes one scrape that began after that
	identity Identity
	ends     []func(context.Context) error // of what is exported
}

// New builds the telemetry of a process, of which nothing is exported before
// Export is called.
func New(id Identity, cfg Config, logTo io.Writer) *Telemetry {
	t := base(id.Namespace, newLogger(cfg, logTo))
	t.identity, t.trust, t.proxied = id, cfg.TraceTrust, cfg.Proxy
	// Metrics of Go and of the process keep the names that every dashboard knows.
	t.Registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(schedulerLatency)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	t.Metrics.MustRegister(buildInfo(id))
	return t
}

// Discard is telemetry that goes nowhere, for tests and short commands. The
// metrics are counted in the namespace "test" and can be read from the registry.
func Discard() *Telemetry { return base("test", slog.New(slog.DiscardHandler)) }

// QuietCalls is the same telemetry without the line of each call, for commands
// that tell themselves what came of it. All else is logged as before.
func (t *Telemetry) QuietCalls() *Telemetry {
	quiet := *t
	quiet.quietCalls = true
	return &quiet
}

// base is telemetry that logs to log and exports nothing.
func base(namespace string, log *slog.Logger) *Telemetry {
	registry := prometheus.NewRegistry()
	metrics := prometheus.WrapRegistererWithPrefix(namespace+"_", registry)
	t := &Telemetry{
		Namespace: namespace,
		Metrics:   metrics,
		Log:       log,
		Registry:  registry,
		Tracer:    noTracer(),
		Propagator: propagation.NewCompositeTextMapPropagator(
			propagation.TraceContext{},
			propagation.Baggage{},
		),
		server:   newServerMetrics(),
		client:   newClientMetrics(),
		spans:    newSpans(metrics),
		drain:    newDrain(metrics),
		scraped:  make(chan struct{}, 1),
		awaiting: new(atomic.Bool),
	}
	registry.MustRegister(t.server, t.client)
	return t
}

// schedulerLatency is how long goroutines that could run wait for a processor:
// what a CPU limit that is too low costs.
var schedulerLatency = collectors.GoRuntimeMetricsRule{
	Matcher: regexp.MustCompile(`^/sched/latencies:seconds$`),
}

// Handler serves the registry. OpenMetrics is on because only it carries
// exemplars; scrapes that overlap share one gathering.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{
		Registry:          t.Registry,
		EnableOpenMetrics: true,
		CoalesceGather:    true,
		ErrorLog:          StandardLog(t.Log, "metrics", slog.LevelError),
	})
}

// buildInfo is a constant 1 whose labels tell which version runs where.
func buildInfo(id Identity) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "build_info",
		Help: "Always 1; the labels name the service, its version and the Go version it was built with.",
		ConstLabels: prometheus.Labels{
			"service":   id.Service,
			"version":   id.Version,
			"goversion": runtime.Version(),
		},
	})
	info.Set(1)
	return info
}
