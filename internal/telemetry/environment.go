package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// environment is the variables of OpenTelemetry that say what is exported, and those that its SDK
// handles badly. A value that is not supported, or makes no sense, is logged and counts as not set:
// telemetry never stops a process.
type environment struct {
	// lookup returns the value of a variable, "" if it is not set.
	lookup func(name string) string
	log    *slog.Logger
	told   map[string]bool // variables of which a value was logged, with the value
}

// newEnvironment reads variables by lookup, and logs what it does not take.
func newEnvironment(lookup func(name string) string, log *slog.Logger) environment {
	return environment{lookup, log, map[string]bool{}}
}

// The protocols of OTLP.
const (
	overGRPC = "grpc"
	overHTTP = "http/protobuf"
)

// protocols are those by which spans and metrics are exported, "" if they are not. Spans are if
// there is a collector; metrics, which can be scraped, only if they are asked for.
func (e environment) protocols() (spans, metrics string) {
	// These two are asked only to log that what they ask for is not supported.
	e.list("OTEL_LOGS_EXPORTER", "none")
	e.list("OTEL_CONFIG_FILE")
	// It switches everything off, whatever else is set.
	if slices.Contains(e.list("OTEL_SDK_DISABLED", "true", "false"), "true") {
		return "", ""
	}
	// The variable of the signal wins over that of all signals, as in the specification.
	collector := cmp.Or(
		e.lookup("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
		e.lookup("OTEL_EXPORTER_OTLP_ENDPOINT"),
	)
	if exporters := e.list("OTEL_TRACES_EXPORTER", "otlp", "none"); slices.Contains(exporters,
		"otlp") || e.value("OTEL_TRACES_EXPORTER") == "" && collector != "" {
		spans = e.protocol("TRACES")
	}
	if slices.Contains(e.list("OTEL_METRICS_EXPORTER", "otlp", "prometheus", "none"), "otlp") {
		metrics = e.protocol("METRICS")
	}
	return spans, metrics
}

// propagator is what calls carry of a trace in their metadata.
func (e environment) propagator() propagation.TextMapPropagator {
	var chosen []propagation.TextMapPropagator
	// "none" is among the supported values, and chooses neither.
	names := e.list("OTEL_PROPAGATORS", "tracecontext", "baggage", "none")
	if len(names) == 0 || slices.Contains(names, "tracecontext") {
		chosen = append(chosen, propagation.TraceContext{})
	}
	if len(names) == 0 || slices.Contains(names, "baggage") {
		chosen = append(chosen, propagation.Baggage{})
	}
	return propagation.NewCompositeTextMapPropagator(chosen...)
}

// protocol is that of a signal, and "" if it is none that is supported: a collector that expects it
// understands no other.
func (e environment) protocol(signal string) string {
	variable := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	if e.value(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	protocol := cmp.Or(e.value(variable), overGRPC)
	if !e.supports(variable, protocol, overGRPC, overHTTP) {
		return ""
	}
	return protocol
}

// list is the values of a variable, which commas separate. Those that are not supported are left
// out.
func (e environment) list(variable string, supported ...string) (values []string) {
	for value := range strings.SplitSeq(e.value(variable), ",") {
		if value = strings.TrimSpace(value); value != "" && e.supports(variable, value, supported...) {
			values = append(values, value)
		}
	}
	return values
}

// supports logs a value that is not supported.
func (e environment) supports(variable, value string, supported ...string) bool {
	ok := slices.Contains(supported, value)
	// A variable may be read several times; its value is logged once.
	if setting := variable + "=" + value; !ok && !e.told[setting] {
		e.told[setting] = true
		e.log.Warn(
			"a value of a variable is not supported",
			"variable",
			variable,
			"value",
			value,
			"supported",
			strings.Join(supported, ", "),
		)
	}
	return ok
}

// value is that of a variable whose values are names, which the specification compares without
// regard to case.
func (e environment) value(variable string) string {
	return strings.ToLower(strings.TrimSpace(e.lookup(variable)))
}

// number is the value of a variable that has to be above zero.
func (e environment) number(variable string, byDefault, most int) int {
	value := strings.TrimSpace(e.lookup(variable))
	if value == "" {
		return byDefault
	}
	number, err := strconv.Atoi(value)
	if err != nil || number < 1 || number > most {
		e.log.Warn(
			"a variable is no number in its range, and counts as not set",
			"variable",
			variable,
			"value",
			value,
			"least",
			1,
			"most",
			most,
		)
		return byDefault
	}
	return number
}

// resource names the process. The variables of OpenTelemetry win over what is given here, as its
// specification says. Of OTEL_RESOURCE_ATTRIBUTES it has what is well-formed.
func (e environment) resource(ctx context.Context, id Identity) *resource.Resource {
	// The options are in the order in which the later ones win.
	res, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(id.Service), semconv.ServiceVersion(id.Version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		e.log.Warn("not every resource attribute is exported", "error", err)
	}
	// The attributes are exported with every batch, and one that is not UTF-8 would spoil them all.
	return resource.NewWithAttributes(res.SchemaURL(), fitAttributes(res.Attributes())...)
}
