package e2e

import (
	"context"
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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// scrapeTime is how long it may take until Prometheus shows what a pod counts: some scrapes.
	scrapeTime = 30 * time.Second
	// traceTime is how long it may take until Jaeger shows a span that has ended: a batch of the process, one of Jaeger.
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
	inOrder(t,
		promise{"three replicas start under Prometheus and Jaeger", o.start},
		promise{"the ConfigMaps hold exactly the dashboards and rules of the chart", o.configMaps},
		promise{"Prometheus has loaded every rule and can evaluate it", o.rulesLoaded},
		promise{"promtool finds nothing wrong with the metrics", o.promtool},
		promise{"messages are counted while their stream runs", o.countsWhileRunning},
		promise{"an exemplar leads to a trace with a client's and a server's span from two pods", o.exemplars},
		promise{"an upload is one trace, with its calls below it", o.uploadTrace},
		promise{"a message is a short trace of its own, linked to the streams that carried it", o.messageTrace},
		promise{"calls fail in the ways that dashboards show", o.faults},
		promise{"a store that is gone is seen, and an alert tells", o.storeGone},
		promise{"after faults every panel of every dashboard has data", o.panels},
		promise{"every selector of every panel and rule finds a series", o.selectors},
		promise{"without a collector calls go on, and the spans that are lost are counted", o.collectorGone},
	)
}

func (o *observed) start(t *testing.T) {
	platform := o.namespace.release("platform", "platform")
	platform.install(t, "--set", "grafana.enabled=false,metricsServer.enabled=false")
	o.install(t, "--values", o.chart+"/values-development.yaml", "--set", strings.Join([]string{
		"server.config.OBJECTS_QUOTA_BYTES=1TiB", "server.drain.scrapeWaitSeconds=0", "client.drain.scrapeWaitSeconds=0",
		"client.config.WORKLOAD_UPLOADS=1", "client.config.WORKLOAD_DOWNLOADS=1",
	}, ","))
	platform.rolledOut(t, platformTime)
	o.rolledOut(t, rolloutTime)
}

// configMaps compares what the cluster has with the files of the folders, by name and content.
func (o *observed) configMaps(t *testing.T) {
	for name, pattern := range map[string]string{"quartet-dashboards": "dashboards/*.json", "quartet-alerts": "alerts/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(o.chart, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files like %s (%v)", pattern, err)
		}
		want := map[string]string{}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want[filepath.Base(file)] = string(text)
		}
		got, err := o.kube.CoreV1().ConfigMaps(o.namespace.name).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got.Data, want) {
			t.Errorf("%s has %v, the folder has %v, or their contents differ", name, slices.Sorted(maps.Keys(got.Data)), slices.Sorted(maps.Keys(want)))
		}
		if name == "quartet-dashboards" && got.Labels["grafana_dashboard"] != "1" {
			t.Errorf("%s lacks the label by which Grafana's sidecar finds it: %v", name, got.Labels)
		}
	}
}

// rulesLoaded waits for one evaluation of each rule. The kubelet may take a minute to show Prometheus a ConfigMap that is
// younger than its pod.
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

// countsWhileRunning holds an upload open and sees it in Prometheus. What the workload's uploads of 1 MiB have brought,
// which end at once, is taken off.
func (o *observed) countsWhileRunning(t *testing.T) {
	const grown, enough = `
		sum(grpc_server_msg_received_bytes_total{grpc_method="UploadObject"}
			- grpc_server_msg_received_bytes_total{grpc_method="UploadObject"} offset 15s)
		- 1048576 * sum(grpc_server_started_total{grpc_method="UploadObject"}
			- grpc_server_started_total{grpc_method="UploadObject"} offset 15s)`, 8 << 20
	upload := o.startUpload(t, o.somePods(t, "client", 1)[0].Name, "watched")
	eventually(t, "growth of an upload that runs", 2*scrapeTime, func(ctx context.Context) error {
		bytes, err := o.prometheus.value(ctx, grown)
		if err == nil && bytes < enough {
			err = fmt.Errorf("%v bytes", bytes)
		}
		return err
	})
	if !upload.running() {
		t.Error("the upload was over before it was seen")
	}
	upload.finish(t)
}

// exemplars follows what a person would click on: from the heatmap to the trace.
func (o *observed) exemplars(t *testing.T) {
	for _, mode := range []string{"unary", "server_stream", "client_stream"} {
		eventually(t, "a trace for an exemplar of "+mode, scrapeTime+traceTime, func(ctx context.Context) error {
			traces, err := o.prometheus.exemplarTraces(ctx, fmt.Sprintf(`grpc_server_handling_seconds_bucket{grpc_type=%q,grpc_service="quartet.v1.ObjectService"}`, mode), watched)
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
		if ok && s.service == "quartet-server" && caller.service == "quartet-client" && s.pod != "" && caller.pod != "" && s.pod != caller.pod {
			return nil
		}
	}
	return fmt.Errorf("%d spans, none of a server below one of a client in another pod", len(spans))
}

// uploadTrace wants the tree that client/call promises: one span for the upload, and the calls that it took below it.
func (o *observed) uploadTrace(t *testing.T) {
	eventually(t, "the trace of an upload", traceTime, func(ctx context.Context) error {
		spans, err := o.jaeger.named(ctx, "quartet-client", "upload")
		if err != nil {
			return err
		}
		for _, upload := range spans {
			if upload.OperationName == "upload" && upload.parent() == "" && hasCallBelow(spans, upload) {
				return nil
			}
		}
		return fmt.Errorf("%d spans, none of them an upload above a call", len(spans))
	})
}

func hasCallBelow(spans []span, above span) bool {
	return slices.ContainsFunc(spans, func(s span) bool {
		return s.TraceID == above.TraceID && s.parent() == above.SpanID && strings.HasSuffix(s.OperationName, "/UploadObject")
	})
}

// messageTrace wants what somebody needs to follow one message: who said it, who kept it and who heard it, in one small
// trace, and from there a link to the stream on which the server got it.
func (o *observed) messageTrace(t *testing.T) {
	eventually(t, "the trace of a message", traceTime, func(ctx context.Context) error {
		spans, err := o.jaeger.named(ctx, "quartet-server", "keep")
		if err != nil {
			return err
		}
		for _, keep := range spans {
			if keep.OperationName != "keep" || !heard(spans, keep) || calledAcrossPods(spans) != nil {
				continue
			}
			for _, link := range keep.links() {
				stream, err := o.jaeger.trace(ctx, link.TraceID)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(stream, func(s span) bool { return s.SpanID == link.SpanID && s.OperationName == "join" }) {
					return nil
				}
			}
		}
		return fmt.Errorf("%d spans, none of them a message that was said, kept, heard and linked to a stream", len(spans))
	})
}

// heard tells whether a message that was said was kept and heard, in this order.
func heard(spans []span, keep span) bool {
	said := slices.ContainsFunc(spans, func(s span) bool { return s.SpanID == keep.parent() && s.OperationName == "send" })
	return said && slices.ContainsFunc(spans, func(s span) bool { return s.parent() == keep.SpanID && s.OperationName == "receive" })
}

// faults has something of everything for the panels: a look-up in vain, a server that dies with whatever it was doing and
// counted, and conversations that end, until Prometheus has seen one.
func (o *observed) faults(t *testing.T) {
	const ended = `sum(rate(grpc_server_handled_total{grpc_method="Exchange",namespace="e2e-telemetry"}[5m]))`
	client := o.somePods(t, "client", 1)[0].Name
	if out, err := try(t.Context(), "", "kubectl", o.inClient(client, "get", "no such object")...); err == nil {
		t.Errorf("an object that does not exist was found: %s", out.stdout)
	}
	o.crashPod(t, o.somePods(t, "server", serverReplicas)[0].Name)
	o.rolledOut(t, rolloutTime)
	eventually(t, "the end of a conversation", time.Minute, func(ctx context.Context) error {
		run(t, "kubectl", o.inClient(client, "chat", "lobby", "--as", "ann", "--after", "0")...)
		rate, err := o.prometheus.value(ctx, ended)
		if err == nil && rate == 0 {
			err = errors.New("none is counted")
		}
		return err
	})
}

// storeGone takes the store away, waits until somebody would be told, and gives it back. Uploads fail meanwhile; the
// panels have something to show of that.
func (o *observed) storeGone(t *testing.T) {
	const down = `ALERTS{alertname="QuartetBackendDown",namespace="e2e-telemetry"}`
	o.scale(t, "platform-s3", 0)
	eventually(t, "an alert that a backend is gone", time.Minute, func(ctx context.Context) error {
		found, err := o.prometheus.series(ctx, down, time.Minute)
		if err == nil && found == 0 {
			err = errors.New("no such alert is pending or firing")
		}
		return err
	})
	o.scale(t, "platform-s3", 1)
	eventually(t, "the store again", time.Minute, func(ctx context.Context) error {
		up, err := o.prometheus.value(ctx, `min(quartet_backend_up{namespace="e2e-telemetry"})`)
		if err == nil && up != 1 {
			err = errors.New("a server says that a backend is down")
		}
		return err
	})
}

// panels asks every question of every dashboard as Grafana would, over the time that this state has lasted.
func (o *observed) panels(t *testing.T) {
	for _, query := range o.queries(t, "-expressions", "charts/quartet/dashboards/*.json") {
		points, err := o.prometheus.points(t.Context(), query.text, watched)
		if err != nil || points == 0 {
			t.Errorf("%s, %q: no data for %s (%v)", query.file, query.title, query.text, err)
		}
	}
}

func (o *observed) selectors(t *testing.T) {
	for _, query := range o.queries(t, "-selectors", "charts/quartet/dashboards/*.json", "charts/quartet/alerts/*.yaml") {
		found, err := o.prometheus.series(t.Context(), query.text, watched)
		if err != nil || found == 0 {
			t.Errorf("%s, %q: no series for %s (%v)", query.file, query.title, query.text, err)
		}
	}
}

// query is what a panel or a rule asks.
type query struct{ file, title, text string }

// queries takes them out of dashboards and rules, with this namespace for their variable.
func (o *observed) queries(t *testing.T, what string, patterns ...string) (all []query) {
	t.Helper()
	args := []string{"-C", filepath.Join(repository, "tools"), "run", "./dashboards", what, "-namespace", o.namespace.name}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files like %s (%v)", pattern, err)
		}
		for _, file := range files {
			absolute, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, absolute)
		}
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

// collectorGone takes Jaeger away: nobody who calls must notice.
func (o *observed) collectorGone(t *testing.T) {
	const lost = `sum(quartet_spans_failed_total{namespace="e2e-telemetry"}) + sum(quartet_spans_dropped_total{namespace="e2e-telemetry"})`
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
