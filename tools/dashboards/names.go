package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"example.com/quartet/tools/internal/pair"
)

// Names that do not come from the programs: of Prometheus itself, of client_golang where it runs on
// Linux only, and labels of scraping, histograms, summaries and rules.
const (
	otherMetrics = "up process_network_receive_bytes_total process_network_transmit_bytes_total"
	otherLabels  = "__name__ namespace pod job node instance container le quantile slo"
)

// backendUp is registered only if a service has a backend, after what the product's metrics begin
// with. The dashboards and alerts of the host ask for it all the same, so that they hold for the
// service that has one.
const backendUp, backend = "_backend_up", "backend"

// certificateTimes are registered only by programs that have certificates, which ask starts none
// of.
var certificateTimes = []string{
	"_tls_certificate_not_before_timestamp_seconds",
	"_tls_certificate_not_after_timestamp_seconds",
}

// side is the label of theirs.
const side = "side"

// keyTimes are registered only by servers that accept tokens, for each source of keys.
var keyTimes = []string{
	"_token_keys_last_read_timestamp_seconds",
	"_token_keys_read_interval_seconds",
}

// source is the label of theirs.
const source = "source"

// buildInfo ends the name of a metric that each program has. Go has one too.
const buildInfo, goBuildInfo = "_build_info", "go_build_info"

// names are the metrics that exist, and the labels of each.
type names struct {
	// of metrics as the programs register them: counter, gauge, histogram, summary
	kinds map[string]string
	// the labels of each name that can be selected: x_bucket for a histogram x
	series map[string]map[string]bool
	labels map[string]bool // all of them
}

// hasLabel says whether series of that name can have a label.
func (n names) hasLabel(series, label string) bool {
	return n.series[series][label] || slices.Contains(strings.Fields(otherLabels), label)
}

// readNames takes what /metrics of the programs says, from files or, without any, from programs
// that it starts.
func readNames(ctx context.Context, files []string) (names, error) {
	known := names{map[string]string{}, map[string]map[string]bool{}, map[string]bool{}}
	for _, name := range strings.Fields(otherMetrics) {
		known.series[name] = map[string]bool{}
	}
	for _, name := range strings.Fields(otherLabels) {
		known.labels[name] = true
	}
	known.labels[backend], known.labels[side] = true, true
	if len(files) == 0 {
		return known, known.ask(ctx)
	}
	for _, file := range files {
		text, err := os.Open(file)
		if err != nil {
			return known, err
		}
		err = known.read(text)
		text.Close()
		if err != nil {
			return known, fmt.Errorf("%s: %w", file, err)
		}
	}
	return known, nil
}

// ask reads /metrics of both programs: it starts a server that keeps everything itself, and a
// client with its steady traffic.
// metric is there at zero before the first call, so the first answer has them all.
func (n names) ask(ctx context.Context) (err error) {
	scratch, err := os.MkdirTemp("", "dashboards")
	if err != nil {
		return err
	}
	// The folder has the programs, and what the server keeps.
	defer os.RemoveAll(scratch)
	both, err := pair.Start(ctx, "..", scratch, nil, nil)
	if err != nil {
		return err
	}
	// A program that does not end well is a failure, too, even if its metrics were read.
	defer func() { err = errors.Join(err, both.Stop()) }()
	for _, process := range []*pair.Process{both.Server, both.Client} {
		// The log of each program has said where /metrics is.
		request, err := http.NewRequestWithContext(
			ctx,
			http.MethodGet,
			"http://"+process.Addresses["http"]+"/metrics",
			http.NoBody,
		)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		err = n.read(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// read takes Prometheus's text format.
func (n names) read(text io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return err
	}
	for name, family := range families {
		// From the name of the build's metric follows the prefix of the product's own.
		if product, ok := strings.CutSuffix(name, buildInfo); ok && name != goBuildInfo {
			n.series[product+backendUp] = map[string]bool{backend: true}
			for _, time := range certificateTimes {
				n.series[product+time] = map[string]bool{side: true}
			}
			for _, time := range keyTimes {
				n.series[product+time] = map[string]bool{source: true}
			}
		}
		// Documents write the kinds in lower case.
		n.kinds[name] = strings.ToLower(family.GetType().String())
		// What a histogram x or a summary x is stored as are series of other names.
		series := []string{name}
		switch family.GetType() {
		case dto.MetricType_HISTOGRAM:
			series = append(series, name+"_bucket", name+"_count", name+"_sum")
		case dto.MetricType_SUMMARY:
			series = append(series, name+"_count", name+"_sum")
		default:
		}
		// All series of a metric have the same labels.
		labels := map[string]bool{}
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()], n.labels[pair.GetName()] = true, true
			}
		}
		for _, name := range series {
			n.series[name] = labels
		}
	}
	return nil
}
