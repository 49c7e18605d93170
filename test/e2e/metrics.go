package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Where the components show their metrics.
const (
	serverMetrics = 9464
	clientMetrics = 9465
)

// labels choose series; those that are not named may have any value.
type labels map[string]string

// series are those of one metric whose labels are these.
type series struct {
	metric string
	labels labels
}

// metrics is what one pod shows.
type metrics map[string]*dto.MetricFamily

// metricsText is what one pod shows, read through the API server, which reaches every pod.
func (n *namespace) metricsText(ctx context.Context, pod string, port int) ([]byte, error) {
	text, err := n.kube.CoreV1().Pods(n.name).ProxyGet("http", pod, fmt.Sprint(port), "metrics", nil).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", pod, err)
	}
	return text, nil
}

// scrape is the same, taken apart.
func (n *namespace) scrape(ctx context.Context, pod string, port int) (metrics, error) {
	text, err := n.metricsText(ctx, pod, port)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(text))
}

// sum adds up counters and gauges.
func (m metrics) sum(all ...series) float64 {
	total := 0.0
	for _, s := range all {
		for _, metric := range m[s.metric].GetMetric() {
			if matches(labelsOf(metric), s.labels) {
				total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return total
}

func labelsOf(metric *dto.Metric) labels {
	l := labels{}
	for _, label := range metric.GetLabel() {
		l[label.GetName()] = label.GetValue()
	}
	return l
}

func matches(have, want labels) bool {
	for name, value := range want {
		if have[name] != value {
			return false
		}
	}
	return true
}

// perServer is what some counters of each server's pod add up to, read at about the same time.
func (n *namespace) perServer(ctx context.Context, all ...series) (map[string]float64, error) {
	pods, err := n.pods(ctx, "server")
	if err != nil {
		return nil, err
	}
	var wait sync.WaitGroup
	values, problems := make([]float64, len(pods)), make([]error, len(pods))
	for i, pod := range pods {
		wait.Go(func() {
			m, err := n.scrape(ctx, pod.Name, serverMetrics)
			values[i], problems[i] = m.sum(all...), err
		})
	}
	wait.Wait()
	sums := map[string]float64{}
	for i, pod := range pods {
		sums[pod.Name] = values[i]
	}
	return sums, errors.Join(problems...)
}

// growth is by how much counters have grown. A pod that was not there before began at zero.
func growth(before, now map[string]float64) (each map[string]float64, all float64) {
	each = map[string]float64{}
	for pod, value := range now {
		each[pod] = value - before[pod]
		all += each[pod]
	}
	return each, all
}
