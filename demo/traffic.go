package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"example.com/quartet"
)

// verdicts counts operations of the steady traffic by method.
type verdicts map[string]struct{ good, bad int }

// clientMetrics reads the metrics of the client that makes steady traffic.
func (p *pair) clientMetrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.clientAddresses["http"]+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(response.Body)
}

// traffic is how the steady traffic goes.
func (p *pair) traffic(ctx context.Context) (verdicts, error) {
	families, err := p.clientMetrics(ctx)
	if err != nil {
		return nil, err
	}
	found := verdicts{}
	for _, m := range families[quartet.Identity.Namespace()+"_traffic_operations_total"].GetMetric() {
		method := label(m, "grpc_method")
		v := found[method]
		switch n := int(m.GetCounter().GetValue()); label(m, "verdict") {
		case "good":
			v.good = n
		case "bad":
			v.bad = n
		}
		found[method] = v
	}
	return found, nil
}

// buckets are those of a histogram, by their upper bound in seconds and in its order.
type buckets []*dto.Bucket

// firstReplies are the times from the begin of a stream to its first reply, by the name of the
// method.
func (p *pair) firstReplies(ctx context.Context) (map[string]buckets, error) {
	families, err := p.clientMetrics(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]buckets{}
	for _, m := range families["grpc_client_first_message_seconds"].GetMetric() {
		found[label(m, "grpc_service")+"/"+label(m, "grpc_method")] = m.GetHistogram().GetBucket()
	}
	return found, nil
}

// quantile is the upper bound of the bucket that has it.
func (b buckets) quantile(q float64) string {
	if len(b) == 0 || b[len(b)-1].GetCumulativeCount() == 0 {
		return "-"
	}
	all := b[len(b)-1].GetCumulativeCount()
	for _, bucket := range b {
		bound := bucket.GetUpperBound()
		if float64(bucket.GetCumulativeCount()) >= q*float64(all) && !math.IsInf(bound, 1) {
			return "≤ " + time.Duration(bound*float64(time.Second)).String()
		}
	}
	return "> 10 s"
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// awaitTraffic waits until there is enough of every operation for a quantile to mean something.
func (p *pair) awaitTraffic(ctx context.Context) error {
	step("traffic", "until every operation has been done a few times")
	for {
		found, err := p.traffic(ctx)
		if err != nil {
			return p.withLog(err)
		}
		enough := len(found) > 0
		for _, v := range found {
			enough = enough && v.good >= 5
		}
		if enough {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return p.withLog(fmt.Errorf("wait for traffic: %v: %w", found, ctx.Err()))
		}
	}
}

// verdict is an error if anything of the steady traffic was wrong.
func (p *pair) verdict(ctx context.Context) error {
	found, err := p.traffic(ctx)
	if err != nil {
		return err
	}
	var problems []error
	good := 0
	for method, v := range found {
		good += v.good
		if v.bad > 0 {
			problems = append(problems, fmt.Errorf("%s: %d of %d operations were wrong", method, v.bad, v.good+v.bad))
		}
	}
	if len(problems) > 0 {
		return p.withLog(errors.Join(problems...))
	}
	step("verdict", "%d operations of steady traffic by %d methods, each with its answer verified, and none was wrong", good, len(found))
	return nil
}

// watch prints now and then how the traffic goes, until Ctrl-C.
func (p *pair) watch(ctx context.Context) error {
	fmt.Println("Steady traffic goes on, and these work meanwhile; Ctrl-C ends it.")
	for _, hint := range p.hints() {
		fmt.Println("  " + hint)
	}
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.server.Exited():
			return p.withLog(errors.New("the server has ended"))
		case <-p.client.Exited():
			return p.withLog(errors.New("the client has ended"))
		case <-ticker.C:
		}
		found, err := p.traffic(ctx)
		if err != nil {
			continue // The next one may do better, or the exit be seen.
		}
		for _, method := range slices.Sorted(maps.Keys(found)) {
			fmt.Printf("%s %d good %d bad   ", method, found[method].good, found[method].bad)
		}
		fmt.Println()
	}
}
