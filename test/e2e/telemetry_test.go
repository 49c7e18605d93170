package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"example.com/quartet"
)

const (
	// scrapeTime is how long it may take until Prometheus shows what a pod counts: some scrapes.
	scrapeTime = 30 * time.Second
	// traceTime is how long it may take until Jaeger shows a span that has ended: a batch of the
	// process, one of Jaeger.
	traceTime = 30 * time.Second
	// watched is how far back panels and selectors are looked at: all of this state.
	watched = 10 * time.Minute
)

// observed is three servers and a client under the eyes of the platform's Prometheus and Jaeger.
type observed struct {
	release
	prometheus prometheus
	jaeger     jaeger
}

func testTelemetry(t *testing.T, c *cluster) {
	n := c.newNamespace(t, "e2e-telemetry")
	o := &observed{n.release("quartet", "quartet"), prometheus{n}, jaeger{n}}
	inOrder(t, slices.Concat([]promise{
		{"three replicas start under Prometheus and Jaeger", o.start},
		{"the ConfigMaps hold exactly the dashboards and rules of the chart", o.configMaps},
		{"Prometheus has loaded every rule and can evaluate it", o.rulesLoaded},
		{"promtool finds nothing wrong with the metrics", o.promtool},
		{"an exemplar leads to a trace with a client's and a server's span from two pods", o.exemplars},
	}, promises(o, func(of service) func(*observed) []promise { return of.observed }), []promise{
		{"a server that dies is replaced", o.crash},
		{"after faults every panel of every dashboard has data", o.panels},
		{"every selector of every panel and rule finds a series", o.selectors},
		{"without a collector calls go on, and the spans that are lost are counted", o.collectorGone},
	})...)
}

func (o *observed) start(t *testing.T) {
	platform := o.namespace.release("platform", "platform")
	platform.install(t, "--set", "grafana.enabled=false,metricsServer.enabled=false")
	values := settings([]string{"server.drain.scrapeWaitSeconds=0", "client.drain.scrapeWaitSeconds=0"},
		func(s service) string { return s.observedValues })
	o.install(t, "--values", o.chart+"/values-development.yaml", "--set", values)
	platform.rolledOut(t, platformTime)
	o.rolledOut(t, rolloutTime)
}

// dashboards are those of the chart, with those of its services, and alerts its files of rules.
func (o *observed) dashboards(t *testing.T) []string {
	t.Helper()
	return o.files(t, "dashboards/*.json", "services/*/dashboards/*.json")
}

func (o *observed) alerts(t *testing.T) []string {
	t.Helper()
	return o.files(t, "alerts/*.yaml", "services/*/alerts/*.yaml")
}

// configMaps compares what the cluster has with the files of the folders, by name and content.
func (o *observed) configMaps(t *testing.T) {
	want := map[string]string{}
	for _, file := range o.alerts(t) {
		want[filepath.Base(file)] = read(t, file)
	}
	if got := o.configMap(t, "quartet-alerts").Data; !maps.Equal(got, want) {
		t.Errorf("quartet-alerts has %v, the folder has %v, or their contents differ", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}

	want = map[string]string{}
	for _, file := range o.dashboards(t) {
		want[o.namespace.name+".quartet."+filepath.Base(file)] = withoutRelease(t, read(t, file))
	}
	got := o.configMap(t, "quartet-dashboards")
	for name, text := range got.Data {
		got.Data[name] = withoutRelease(t, text)
	}
	if !maps.Equal(got.Data, want) {
		t.Errorf("quartet-dashboards has %v, expected %v, or their contents differ", slices.Sorted(maps.Keys(got.Data)), slices.Sorted(maps.Keys(want)))
	}
	if got.Labels["grafana_dashboard"] != "1" {
		t.Errorf("quartet-dashboards lacks the label by which Grafana's sidecar finds it: %v", got.Labels)
	}
}

func (o *observed) configMap(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	configMaps := o.kube.CoreV1().ConfigMaps(o.namespace.name)
	found, err := configMaps.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withoutRelease is a dashboard without what the chart makes different for each release.
func withoutRelease(t *testing.T, dashboard string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(dashboard), &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "uid")
	delete(all, "title")
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rulesLoaded waits for one evaluation of each rule. The kubelet may take a minute to show
// Prometheus a ConfigMap that is younger than its pod.
func (o *observed) rulesLoaded(t *testing.T) {
	eventually(t, "rules that were evaluated", 2*time.Minute, func(ctx context.Context) error {
		rules, err := o.prometheus.rules(ctx)
		if err == nil && len(rules) == 0 {
			err = errors.New("Prometheus has none")
		}
		for _, r := range rules {
			if r.Health == "err" {
				t.Fatalf("%s: %s", r.Name, r.LastError)
			}
			if r.Health != "ok" {
				err = fmt.Errorf("%s is %s", r.Name, r.Health)
			}
		}
		return err
	})
}

func (o *observed) promtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is missing; it comes with Prometheus")
	}
	for component, port := range map[string]int{"server": serverMetrics, "client": clientMetrics} {
		pods, err := o.pods(t.Context(), component)
		if err != nil || len(pods) == 0 {
			t.Fatalf("pods of %s: %v", component, err)
		}
		text, err := o.metricsText(t.Context(), pods[0].Name, port)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := try(t.Context(), string(text), "promtool", "check", "metrics"); err != nil {
			t.Errorf("%s: %v %s", component, err, out.stderr)
		}
	}
}

// exemplars follows what people click on: from the heatmap to the trace. Streams in both directions
// are left out, as they may run for hours.
func (o *observed) exemplars(t *testing.T) {
	for _, op := range o.verdictNow(t).operations() {
		if op.mode == "bidi_stream" {
			continue
		}
		eventually(t, "a trace for an exemplar of "+op.String(), scrapeTime+traceTime, func(ctx context.Context) error {
			selector := fmt.Sprintf(`grpc_server_handling_seconds_bucket{grpc_service=%q,grpc_method=%q}`, op.service, op.method)
			traces, err := o.prometheus.exemplarTraces(ctx, selector, watched)
			if err != nil || len(traces) == 0 {
				return errors.Join(err, errors.New("no exemplar"))
			}
			spans, err := o.jaeger.trace(ctx, traces[len(traces)-1])
			if err != nil {
				return err
			}
			return calledAcrossPods(spans)
		})
	}
}

// calledAcrossPods wants a server's span whose parent is a client's span in another pod.
func calledAcrossPods(spans []span) error {
	byID := map[string]span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	for _, s := range spans {
		caller, ok := byID[s.parent()]
		if ok && s.service == quartet.Identity.Component("server") && caller.service == quartet.Identity.Component("client") && s.pod != "" && caller.pod != "" && s.pod != caller.pod {
			return nil
		}
	}
	return fmt.Errorf("%d spans, none of a server below one of a client in another pod", len(spans))
}

// crash has a server die with whatever it was doing and counted, for panels that show such things.
func (o *observed) crash(t *testing.T) {
	o.crashPod(t, o.somePods(t, "server", serverReplicas)[0].Name)
	o.rolledOut(t, rolloutTime)
}

// panels asks every question of every dashboard as Grafana would, over the time that this state has
// lasted.
func (o *observed) panels(t *testing.T) {
	o.find(t, o.queries(t, "-expressions", o.dashboards(t)), o.prometheus.points)
}

// selectors leaves out the times of certificates and of keys, which this release has none of.
func (o *observed) selectors(t *testing.T) {
	all := o.queries(t, "-selectors", slices.Concat(o.dashboards(t), o.alerts(t)))
	all = slices.DeleteFunc(all, func(q query) bool {
		return strings.Contains(q.text, "_tls_certificate_") || strings.Contains(q.text, "_token_keys_")
	})
	o.find(t, all, o.prometheus.series)
}

// find waits until every query finds something. The latest fault may not be in Prometheus yet.
func (o *observed) find(
	t *testing.T, queries []query, count func(context.Context, string, time.Duration) (int, error),
) {
	t.Helper()
	eventually(t, "something for every query", 2*scrapeTime, func(ctx context.Context) error {
		var problems []error
		queries = slices.DeleteFunc(queries, func(q query) bool {
			found, err := count(ctx, q.text, watched)
			if err != nil || found == 0 {
				problems = append(problems, fmt.Errorf("%s, %q: nothing for %s (%v)", q.file, q.title, q.text, err))
			}
			return err == nil && found > 0
		})
		return errors.Join(problems...)
	})
}

// query is what a panel or a rule asks.
type query struct{ file, title, text string }

// queries takes them out of dashboards and rules, with this namespace for their variable.
func (o *observed) queries(t *testing.T, what string, files []string) (all []query) {
	t.Helper()
	args := []string{"-C", filepath.Join(repository, "tools"), "run", "./dashboards", what, "-namespace", o.namespace.name}
	for _, file := range files {
		absolute, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, absolute)
	}
	for line := range strings.Lines(run(t, "go", args...).stdout) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(fields) != 3 {
			t.Fatalf("not a query: %q", line)
		}
		all = append(all, query{filepath.Base(fields[0]), fields[1], fields[2]})
	}
	if len(all) < 20 {
		t.Fatalf("only %d queries; the dashboards have more", len(all))
	}
	t.Logf("%d queries", len(all))
	return all
}

// collectorGone takes Jaeger away, which no caller may notice.
func (o *observed) collectorGone(t *testing.T) {
	lost := fmt.Sprintf(`sum(%[1]s_spans_failed_total{namespace="e2e-telemetry"}) + sum(%[1]s_spans_dropped_total{namespace="e2e-telemetry"})`,
		quartet.Identity.Namespace())
	before, err := o.prometheus.value(t.Context(), lost)
	if err != nil {
		t.Fatal(err)
	}
	o.scale(t, "platform-jaeger", 0)
	began := o.verdictNow(t)
	eventually(t, "spans that are counted as lost", 2*time.Minute, func(ctx context.Context) error {
		now, err := o.prometheus.value(ctx, lost)
		if err == nil && now <= before {
			err = fmt.Errorf("still %v", now)
		}
		return err
	})
	o.findsAllRight(t, began)
}
