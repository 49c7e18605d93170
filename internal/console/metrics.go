package console

import (
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// methodNumbers are what the client has counted of a method since it started.
type methodNumbers struct {
	Live             float64            `json:"live"`    // running now
	Started          float64            `json:"started"` // all there were
	Failed           float64            `json:"failed"`  // ended with another code than OK
	Codes            map[string]float64 `json:"codes"`   // how many ended with each
	MessagesSent     float64            `json:"messages_sent"`
	MessagesReceived float64            `json:"messages_received"`
	BytesSent        float64            `json:"bytes_sent"`
	BytesReceived    float64            `json:"bytes_received"`
	// P50 and P99 are in seconds, as exactly as the buckets allow.
	P50     float64  `json:"p50_seconds"`
	P99     float64  `json:"p99_seconds"`
	Buckets []bucket `json:"buckets"` // of how long calls took, each with all below
}

// bucket is how many calls took at most Below seconds, as the buckets of Prometheus count.
type bucket struct {
	Below float64 `json:"below_seconds"`
	Count uint64  `json:"count"`
}

// numbers reads the client's own metrics, at most once a second however many pages ask.
type numbers struct {
	gather prometheus.Gatherer

	// mu guards at and latest. It is held while the metrics are gathered, so that pages that ask
	// meanwhile wait for this one answer.
	mu     sync.Mutex
	at     time.Time
	latest map[string]*methodNumbers
}

// of returns the numbers of a method, all zero if it was never called.
func (n *numbers) of(method string) (methodNumbers, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.at) >= time.Second {
		families, err := n.gather.Gather()
		// Gather returns what it could read together with its error.
		if err != nil && len(families) == 0 {
			return methodNumbers{}, err
		}
		n.at, n.latest = time.Now(), read(families)
	}
	if found := n.latest[method]; found != nil {
		return *found, nil
	}
	return methodNumbers{}, nil
}

// read sums what the metrics of a client say of each method.
func read(families []*dto.MetricFamily) map[string]*methodNumbers {
	all := map[string]*methodNumbers{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			// Metrics without these labels come together under "/", which no page asks for.
			name := label(m, "grpc_service") + "/" + label(m, "grpc_method")
			its := all[name]
			if its == nil {
				its = &methodNumbers{Codes: map[string]float64{}}
				all[name] = its
			}
			switch value := m.GetCounter().GetValue() + m.GetGauge().GetValue(); family.GetName() {
			// The names and labels are those that package telemetry registers.
			case "grpc_client_in_flight":
				its.Live = value
			case "grpc_client_started_total":
				its.Started = value
			case "grpc_client_handled_total":
				code := label(m, "grpc_code")
				// telemetry has the usual codes from the start, at 0, which would only fill the page.
				if value > 0 {
					its.Codes[code] = value
				}
				if code != "OK" {
					its.Failed += value
				}
			case "grpc_client_msg_sent_total":
				its.MessagesSent = value
			case "grpc_client_msg_received_total":
				its.MessagesReceived = value
			case "grpc_client_msg_sent_bytes_total":
				its.BytesSent = value
			case "grpc_client_msg_received_bytes_total":
				its.BytesReceived = value
			case "grpc_client_handling_seconds":
				for _, b := range m.GetHistogram().GetBucket() {
					// JSON has no infinity; the count of this bucket is that of all calls.
					if !math.IsInf(b.GetUpperBound(), 1) {
						its.Buckets = append(its.Buckets, bucket{b.GetUpperBound(), b.GetCumulativeCount()})
					}
				}
				count := m.GetHistogram().GetSampleCount()
				its.P50, its.P99 = quantile(.5, its.Buckets, count), quantile(.99, its.Buckets, count)
			}
		}
	}
	return all
}

// quantile is where a part of count observations lies, as histogram_quantile of PromQL has it:
// evenly spread within their bucket, and the last bound for those above it.
func quantile(part float64, buckets []bucket, count uint64) float64 {
	rank, from, below := part*float64(count), 0.0, 0.0
	for _, b := range buckets {
		// in is how many are in this bucket alone, below how many in those before it.
		if in := float64(b.Count) - below; in > 0 && float64(b.Count) >= rank {
			return from + (b.Below-from)*(rank-below)/in
		}
		from, below = b.Below, float64(b.Count)
	}
	if count == 0 {
		return 0
	}
	return from
}

// label returns the value of a label, "" if there is none.
func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// serveMetrics answers with the numbers of the method in the query, for the charts of the page.
func (c *Console) serveMetrics(w http.ResponseWriter, r *http.Request, _ rights) {
	name := r.URL.Query().Get("method")
	if _, known := c.methods[name]; !known {
		http.Error(w, "no such method", http.StatusNotFound)
		return
	}
	its, err := c.numbers.of(name)
	if err != nil {
		http.Error(w, "the metrics cannot be read", http.StatusInternalServerError)
		return
	}
	writeJSON(w, its)
}

// writeJSON answers with v as JSON.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // It fails if the peer is gone.
}
