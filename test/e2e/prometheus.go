package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// prometheus is the platform's, asked through the API server.
type prometheus struct{ *namespace }

// api asks Prometheus's HTTP API and decodes what is under "data".
func (p prometheus) api(
	ctx context.Context, path string, parameters map[string]string, data any,
) error {
	body, err := p.kube.CoreV1().Services(p.name).ProxyGet("http", "platform-prometheus", "9090", "/api/v1/"+path, parameters).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("prometheus %s %v: %w %s", path, parameters, err, body)
	}
	answer := struct{ Data any }{data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("prometheus %s: %w", path, err)
	}
	return nil
}

// over gives the parameters of a request about the last minutes.
func over(last time.Duration, parameters map[string]string) map[string]string {
	now := time.Now()
	parameters["start"] = strconv.FormatInt(now.Add(-last).Unix(), 10)
	parameters["end"] = strconv.FormatInt(now.Unix(), 10)
	return parameters
}

// series counts those that a selector has found in the last minutes.
func (p prometheus) series(ctx context.Context, selector string, last time.Duration) (int, error) {
	var found []map[string]string
	err := p.api(ctx, "series", over(last, map[string]string{"match[]": selector}), &found)
	return len(found), err
}

// points counts the values of an expression over the last minutes that are numbers: what is drawn
// on a panel.
func (p prometheus) points(
	ctx context.Context, expression string, last time.Duration,
) (int, error) {
	var answer struct {
		Result []struct {
			Values     [][2]any
			Histograms []any // the ones of native histograms, which a heatmap draws
		}
	}
	err := p.api(ctx, "query_range", over(last, map[string]string{"query": expression, "step": "5"}), &answer)
	count := 0
	for _, series := range answer.Result {
		count += len(series.Histograms)
		for _, point := range series.Values {
			if value, err := strconv.ParseFloat(fmt.Sprint(point[1]), 64); err == nil && !math.IsNaN(value) {
				count++
			}
		}
	}
	return count, err
}

// value is that of an expression which has one value now.
func (p prometheus) value(ctx context.Context, expression string) (float64, error) {
	var answer struct{ Result []struct{ Value [2]any } }
	if err := p.api(ctx, "query", map[string]string{"query": expression}, &answer); err != nil {
		return 0, err
	}
	if len(answer.Result) != 1 {
		return 0, fmt.Errorf("%s has %d values", expression, len(answer.Result))
	}
	return strconv.ParseFloat(fmt.Sprint(answer.Result[0].Value[1]), 64)
}

// exemplarTraces are the traces that the exemplars of a selector lead to, newest last.
func (p prometheus) exemplarTraces(
	ctx context.Context, selector string, last time.Duration,
) (traces []string, err error) {
	var found []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	err = p.api(ctx, "query_exemplars", over(last, map[string]string{"query": selector}), &found)
	for _, series := range found {
		for _, exemplar := range series.Exemplars {
			traces = append(traces, exemplar.Labels["trace_id"])
		}
	}
	return traces, err
}

// rule is one of those that Prometheus has loaded.
type rule struct {
	Name, Type, Health, State, LastError string
}

func (p prometheus) rules(ctx context.Context) (all []rule, err error) {
	var answer struct{ Groups []struct{ Rules []rule } }
	err = p.api(ctx, "rules", nil, &answer)
	for _, group := range answer.Groups {
		all = append(all, group.Rules...)
	}
	return all, err
}
