// Package traffictest tries the operations of a service's steady traffic one by one.
package traffictest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/quartet/internal/traffic"
)

// Try makes one operation of a source and returns what came of it, as the metrics and the log say:
// "good", "bad", or "wrong" for a bad one whose answer must never be given.
func Try(t *testing.T, source traffic.Source, method string) string {
	t.Helper()
	return TryWithin(t, 30*time.Second, source, method)
}

// TryWithin is Try with the time after which an operation counts as bad.
func TryWithin(t *testing.T, timeout time.Duration, source traffic.Source, method string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	// Await, SetUp and CleanUp are left out: the test has prepared what the operation needs.
	only := traffic.Source{Service: source.Service, IsWrong: source.IsWrong}
	for _, operation := range source.Operations {
		if operation.Method == method {
			do := operation.Do
			// The first tick comes after a millisecond.
			operation.Rate, operation.Do = 1000, func(ctx context.Context) error {
				stop() // This one ends, and no other begins.
				return do(ctx)
			}
			only.Operations = append(only.Operations, operation)
		}
	}
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	options := traffic.Options{
		Timeout:    timeout,
		Registerer: registry,
		Log:        slog.New(slog.NewTextHandler(&log, nil)),
	}
	if err := traffic.New(options, only).Run(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", &log)
	counted := Counted(t, registry)
	switch {
	// The counts are {good, bad}. Wrong and late answers are both bad; the log tells them apart.
	case counted[method] == [2]float64{1, 0}:
		return "good"
	case counted[method] == [2]float64{0, 1} && bytes.Contains(log.Bytes(), []byte(`msg="traffic: wrong"`)):
		return "wrong"
	case counted[method] == [2]float64{0, 1}:
		return "bad"
	default:
		return fmt.Sprintf("counted as %v", counted)
	}
}

// Counted returns how many operations of each method were good and bad.
func Counted(t *testing.T, registry *prometheus.Registry) map[string][2]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][2]float64{}
	for _, family := range families {
		if family.GetName() != "traffic_operations_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			// A map's array cannot be changed in place.
			counts := all[labels["grpc_method"]]
			if labels["verdict"] == "good" {
				counts[0] = metric.GetCounter().GetValue()
			} else {
				counts[1] = metric.GetCounter().GetValue()
			}
			all[labels["grpc_method"]] = counts
		}
	}
	return all
}
