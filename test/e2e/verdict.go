package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

var modes = []string{"unary", "server_stream", "client_stream", "bidi"}

// verdict is what the client's workload found of each mode: it knows what every answer has to be.
type verdict struct{ good, bad map[string]float64 }

func (n *namespace) verdict(ctx context.Context) (verdict, error) {
	v := verdict{map[string]float64{}, map[string]float64{}}
	pods, err := n.pods(ctx, "client")
	if err != nil {
		return v, err
	}
	for _, pod := range pods {
		if restarts(pod) > 0 {
			return v, fmt.Errorf("%s was restarted, and has forgotten what it found", pod.Name)
		}
		m, err := n.scrape(ctx, pod.Name, clientMetrics)
		if err != nil {
			return v, err
		}
		for _, mode := range modes {
			v.good[mode] += m.sum(series{"quartet_workload_operations_total", labels{"mode": mode, "verdict": "good"}})
			v.bad[mode] += m.sum(series{"quartet_workload_operations_total", labels{"mode": mode, "verdict": "bad"}})
		}
	}
	return v, nil
}

// verdictNow is the verdict so far; a later findsAllRight counts from there.
func (n *namespace) verdictNow(t *testing.T) verdict {
	t.Helper()
	v, err := n.verdict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// findsAllRight waits until every mode has had some good answers since a verdict, and wants no bad one among them.
func (n *namespace) findsAllRight(t *testing.T, since verdict) {
	t.Helper()
	const some = 3
	var now verdict
	eventually(t, "good answers in every mode", 30*time.Second, func(ctx context.Context) (err error) {
		now, err = n.verdict(ctx)
		for _, mode := range modes {
			if good := now.good[mode] - since.good[mode]; err == nil && good < some {
				err = fmt.Errorf("%s: %v so far", mode, good)
			}
		}
		return err
	})
	for _, mode := range modes {
		bad := now.bad[mode] - since.bad[mode]
		t.Logf("%-14s%5.0f good%5.0f bad", mode, now.good[mode]-since.good[mode], bad)
		if bad != 0 {
			t.Errorf("%s: %v answers were wrong, late or an error", mode, bad)
		}
	}
}
