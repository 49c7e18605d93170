package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// output is what the command prints, and whether it found something wrong.
func output(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := run(t.Context(), append([]string{"-metrics", "testdata/metrics.txt"}, args...), &out)
	return out.String(), err
}

// changed is a copy of a file in testdata, with one thing in it replaced.
func changed(t *testing.T, name, old, now string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("no %q in %s (%v)", old, name, err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, now, 1)),
		0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGoodFilesPass(t *testing.T) {
	out, err := output(t, "testdata/good.json", "testdata/rules.yaml")
	if want := "dashboards: nothing wrong with 8 queries in 2 files\n"; err != nil || out != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
}

func TestEachMistakeIsOneLine(t *testing.T) {
	for _, test := range []struct{ name, file, old, now, want string }{
		{"field unknown to Grafana", "good.json", `"description": "Good is 1.",`, `"info": "Good is 1.",`, "unexpected field 'info'"},
		{"option unknown to its panel", "good.json", `"mode": "multi"`, `"mode": "multi", "colour": 1`, "unexpected field 'colour'"},
		{"value of another type", "good.json", `"h": 1,`, `"h": "1",`, "gridPos.h: "},
		{"no such panel", "good.json", `"type": "stat"`, `"type": "graph2"`, `"Versions": Grafana has no panel "graph2"`},
		{"no uid", "good.json", `"uid": "good"`, `"uid": ""`, `"Good": no title, no tag quartet, or no uid`},
		{"no tag", "good.json", `["quartet"]`, `["other"]`, `"Good": no title, no tag quartet, or no uid`},
		{"no description", "good.json", `"Good is little."`, `""`, `"Slow calls": no title, no unit, or no description`},
		{"no unit", "good.json", `{"unit": "short"}`, `{}`, `"Versions": no title, no unit, or no description`},
		{"identity taken", "good.json", `"id": 3`, `"id": 2`, `"Versions": its id 2 is another panel's`},
		{"one panel on another", "good.json", `"x": 12, "y": 1`, `"x": 11, "y": 8`, `"Versions": lies on the panel at x 0, y 1`},
		{"too far to the right", "good.json", `"x": 12, "y": 1`, `"x": 13, "y": 1`, `"Versions": no place within`},
		{"fixed data source", "good.json", "\"uid\": \"${datasource}\"},\n      \"description\": \"Good is 1", "\"uid\": \"prometheus\"},\n      \"description\": \"Good is 1", `"Versions": its data source is not`},
		{"no query", "good.json", `{"datasource": {"type": "prometheus", "uid": "${datasource}"}, "expr": "count by (version) (quartet_build_info)", "refId": "A"}`, "", `"Versions": asks nothing`},
		{"another kind of query", "good.json", `{"type": "prometheus", "uid": "${datasource}"}, "expr": "count`, `{"type": "loki", "uid": "${datasource}"}, "expr": "count`, `"Versions": a target does not say that its data source is Prometheus`},
		{"name of a target taken", "good.json", `"refId": "B"`, `"refId": "A"`, `"Slow calls": two targets are called "A"`},
		{"not PromQL", "good.json", "count by (version)", "count by version", `"Versions": 1:10: parse error`},
		{"no such metric", "good.json", "grpc_client_ended_total", "grpc_client_endet_total", `"Slow calls": no metric is called "grpc_client_endet_total"`},
		{"no such label", "good.json", "by (version)", "by (vers)", `"Versions": no label is called "vers"`},
		{"no such variable", "good.json", "${pod:regex}", "${pot:regex}", `"Slow calls": no variable is called "pot"`},
		{"variable used before it exists", "good.json", `=~\"$namespace\"`, `=~\"$pod\"`, `"pod": no variable is called "pod"`},
		{"list of a variable in another form", "good.json", `label_values(quartet_build_info, namespace)`, `metrics(quartet)`, `"namespace": not label_values`},
		{"metric that only a rule makes", "good.json", "(quartet_build_info)", "(quartet:calls:rate5m)", `"Versions": no metric is called "quartet:calls:rate5m"`},
		{"metric that no rule makes", "rules.yaml", "expr: quartet:calls:rate5m", "expr: quartet:calls:rate6m", `"NoCalls": no metric is called "quartet:calls:rate6m"`},
		{"label of another metric", "good.json", `label_values(quartet_build_info, namespace)`, `label_values(quartet_build_info{grpc_method=\"Get\"}, namespace)`, `"namespace": quartet_build_info has no label "grpc_method"`},
		{"label of a rule", "rules.yaml", "on (namespace)", "on (nmspace)", `"NoCalls": no label is called "nmspace"`},
		{"metric in prose that no program registers", "metrics.md", "and `quartet_build_info`", "and `quartet_built_info`", `"quartet_built_info": no program registers it`},
		{"metric in a code block that no program registers", "metrics.md", "rate(grpc_client_seconds_count", "rate(grpc_client_second_count", `"grpc_client_second_count": no program registers it`},
		{"kind of a metric", "metrics.md", "| `quartet_build_info` | gauge |", "| `quartet_build_info` | counter |", `"quartet_build_info": a counter, which is registered as a gauge`},
		{"rule that is not PromQL", "rules.yaml", "sum by", "sum of", `"quartet:calls:rate5m": 1:5: parse error`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := changed(t, test.file, test.old, test.now)
			out, err := output(t, file)
			if err == nil {
				t.Fatal("nothing found")
			}
			if lines := strings.Count(out, "\n"); lines != 1 || !strings.HasPrefix(out, file+": ") ||
				!strings.Contains(out, test.want) {
				t.Errorf("want one line with %q, got\n%s", test.want, out)
			}
		})
	}
}

func TestWhatIsRegisteredHasToBeDocumented(t *testing.T) {
	for _, test := range []struct{ name, old, want string }{
		{"metric", "| `quartet_build_info` | gauge | 1; `version` |", `docs: "quartet_build_info": is registered, and no table describes it`},
		{"metric of one side", "`grpc_client_ended_total`, ", `docs: "grpc_client_ended_total": is registered, and no table describes it`},
		{"group", "| `go_…` | | of Go |", `docs: "go_threads": is registered, and no table describes it`},
		{"label", ", by `grpc_method`", `docs: "grpc_server_started_total": no document explains its label "grpc_method"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := output(t, changed(t, "metrics.md", test.old, ""))
			if err == nil || !strings.Contains(out, test.want) {
				t.Errorf("want %q, got %q (%v)", test.want, out, err)
			}
		})
	}
}

func TestTwoDashboardsNeedTwoUIDs(t *testing.T) {
	out, err := output(t, "testdata/good.json", changed(t, "good.json", `"Good"`, `"Copy"`))
	if err == nil ||
		!strings.Contains(
			out,
			`"Copy": no title, no tag quartet, or no uid of its own, which "good" is not`,
		) {
		t.Errorf("got %q (%v)", out, err)
	}
}

func TestSelectorsAreWhatExistsWithoutRules(t *testing.T) {
	out, err := output(t, "-selectors", "-pod", "a|b", "testdata/good.json", "testdata/rules.yaml")
	want := `testdata/good.json	namespace	quartet_build_info
testdata/good.json	pod	quartet_build_info{namespace=~".+"}
testdata/good.json	Starts	process_start_time_seconds
testdata/good.json	Slow calls	grpc_client_seconds_bucket{pod=~"a|b"}
testdata/good.json	Slow calls	grpc_client_ended_total{pod=~"a|b"}
testdata/good.json	Versions	quartet_build_info
testdata/rules.yaml	quartet:calls:rate5m	grpc_server_started_total
testdata/rules.yaml	NoCalls	up
`
	if err != nil || out != want {
		t.Errorf("got (%v)\n%s", err, out)
	}
}

func TestExpressionsAreWhatIsDrawn(t *testing.T) {
	out, err := output(
		t,
		"-expressions",
		"-__rate_interval",
		"2m",
		"testdata/good.json",
		"testdata/rules.yaml",
	)
	want := `testdata/good.json	Slow calls	histogram_quantile(0.99, sum by (le, grpc_method) (rate(grpc_client_seconds_bucket{pod=~".+"}[2m])))
testdata/good.json	Slow calls	rate(grpc_client_ended_total{pod=~".+"}[2m] offset 1d)
testdata/good.json	Versions	count by (version) (quartet_build_info)
testdata/rules.yaml	quartet:calls:rate5m	sum by (namespace) (rate(grpc_server_started_total[5m] offset 5m))
testdata/rules.yaml	NoCalls	quartet:calls:rate5m == 0 and on (namespace) up
`
	if err != nil || out != want {
		t.Errorf("got (%v)\n%s", err, out)
	}
}

func TestDocumentsAndProgramsAgree(t *testing.T) {
	out, err := output(t, "testdata/metrics.md")
	if want := "dashboards: nothing wrong with 0 queries in 1 files\n"; err != nil || out != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
}

func TestFileThatIsNoAnswerIsNoListOfMetrics(t *testing.T) {
	if err := run(t.Context(), []string{"-metrics", "testdata/rules.yaml", "testdata/good.json"},
		&strings.Builder{}); err == nil {
		t.Error("accepted")
	}
}
