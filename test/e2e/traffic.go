package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/quartet"
)

// operation is what the client's steady traffic does again and again: one RPC, in its mode.
type operation struct{ mode, service, method string }

func (o operation) String() string { return o.service + "/" + o.method }

// verdict is what the steady traffic has found of its operations: it knows what every answer has to
// be.
type verdict struct{ good, bad map[operation]float64 }

func (n *namespace) verdict(ctx context.Context) (verdict, error) {
	v := verdict{map[operation]float64{}, map[operation]float64{}}
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
		for _, metric := range m[quartet.Identity.Namespace()+"_traffic_operations_total"].GetMetric() {
			l := labelsOf(metric)
			counts := map[string]map[operation]float64{"good": v.good, "bad": v.bad}[l["verdict"]]
			counts[operation{l["grpc_type"], l["grpc_service"], l["grpc_method"]}] += metric.GetCounter().GetValue()
		}
	}
	return v, nil
}

// operations are those of the traffic, in an order that does not change.
func (v verdict) operations() []operation {
	return slices.SortedFunc(maps.Keys(v.good), func(a, b operation) int {
		return strings.Compare(a.String(), b.String())
	})
}

// calls are the series in which a server counts the calls that operations of a mode make.
func (v verdict) calls(mode string) (all []series) {
	for _, o := range v.operations() {
		if o.mode == mode {
			all = append(all, series{"grpc_server_started_total", labels{"grpc_service": o.service, "grpc_method": o.method}})
		}
	}
	return all
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

// findsAllRight waits until every operation has had some good answers since a verdict, and wants no
// bad one among them.
func (n *namespace) findsAllRight(t *testing.T, since verdict) {
	t.Helper()
	const some = 3
	var now verdict
	eventually(t, "good answers of every operation", 30*time.Second, func(ctx context.Context) (err error) {
		now, err = n.verdict(ctx)
		if err == nil && len(now.good) == 0 {
			err = errors.New("the client counts no operations")
		}
		for _, o := range now.operations() {
			if good := now.good[o] - since.good[o]; err == nil && good < some {
				err = fmt.Errorf("%v: %v so far", o, good)
			}
		}
		return err
	})
	for _, o := range now.operations() {
		good, bad := now.good[o]-since.good[o], now.bad[o]-since.bad[o]
		t.Logf("%-14s %-44v%5.0f good%5.0f bad", o.mode, o, good, bad)
		if bad != 0 {
			t.Errorf("%v: %v answers were wrong, late or an error", o, bad)
		}
	}
}
