package telemetry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/codes"
)

// TestExemplarsLeadToTraces expects the numbers of a sampled call to name its
// trace, on both sides, and those of an unsampled call to name none: no backend has
// recorded what they would lead to.
func TestExemplarsLeadToTraces(t *testing.T) {
	for name, sampler := range map[string]sdktrace.Sampler{"sampled": sdktrace.AlwaysSample(), "unsampled": sdktrace.NeverSample()} {
		t.Run(name, func(t *testing.T) {
			client, spans := recorded(sdktrace.WithSampler(sampler))
			server, _ := recorded()
			p := start(t, &service{}, server, client)
			if err := p.callUnary(testContext(t)); err != nil {
				t.Fatal(err)
			}
			p.settle()
			for side, telemetry := range map[string]*Telemetry{"server": server, "client": client} {
				text := scrape(t, telemetry)
				for _, family := range []string{"_handled_total{", "_handling_seconds_bucket{"} {
					got := exemplars(text, "grpc_"+side+family)
					if name == "unsampled" && len(got) > 0 {
						t.Errorf("%s: the exemplars %q", side, got)
					}
					if name == "sampled" &&
						(len(got) != 1 ||
							!strings.Contains(got[0], spans.Ended()[0].SpanContext().TraceID().String())) {
						t.Errorf("%s: grpc_%s%s has the exemplars %q", side, side, family, got)
					}
				}
			}
		})
	}
}

// TestRareCallsBecomeExemplars expects one exemplar of each bucket and code
// within a second, however many calls there are of another.
func TestRareCallsBecomeExemplars(t *testing.T) {
	e, now := newExamples([]float64{1, 2}), time.Now()
	chosen := func(seconds float64, code codes.Code, after time.Duration) [2]bool {
		return [2]bool{e.lacks(seconds, now.Add(after)), e.lacksCode(code, now.Add(after))}
	}
	for _, c := range []struct {
		seconds float64
		code    codes.Code
		after   time.Duration
		want    [2]bool
	}{
		{0.5, codes.OK, 0, [2]bool{true, true}},
		{1, codes.OK, exampleInterval - 1, [2]bool{false, false}},
		{1.5, codes.Internal, exampleInterval - 1, [2]bool{true, true}},
		{60, codes.OK, exampleInterval - 1, [2]bool{true, false}},
		{0.5, codes.OK, exampleInterval, [2]bool{true, true}},
	} {
		if got := chosen(c.seconds, c.code, c.after); got != c.want {
			t.Errorf("%v s, %s, after %v: %v, want %v", c.seconds, c.code, c.after, got, c.want)
		}
	}
}

// exemplars are the lines of a metric that have one.
func exemplars(text, metric string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, metric) && strings.Contains(line, `# {trace_id="`) {
			found = append(found, line)
		}
	}
	return found
}

func scrape(t *testing.T, telemetry *Telemetry) string {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response := httptest.NewRecorder()
	telemetry.Handler().ServeHTTP(response, request)
	return response.Body.String()
}
