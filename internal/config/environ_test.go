package config

import "testing"

func TestTheLastOfANameCounts(t *testing.T) {
	environ := []string{"A=1", "AB=2", "A=3=4", "B=", "C"}
	for name, want := range map[string]string{"A": "3=4", "AB": "2", "B": "", "C": "", "D": ""} {
		if got := Lookup(environ, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestEitherEndpointNamesACollector(t *testing.T) {
	for _, test := range []struct {
		environ []string
		want    bool
	}{
		{nil, false},
		{[]string{"OTEL_TRACES_SAMPLER=always_on", "OTEL_EXPORTER_OTLP_ENDPOINT="}, false},
		{[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://collector:4317"}, false},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317"}, true},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector:4317"}, true},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317", "OTEL_EXPORTER_OTLP_ENDPOINT="}, false},
	} {
		if got := HasCollector(test.environ); got != test.want {
			t.Errorf("%q: got %t", test.environ, got)
		}
	}
}
