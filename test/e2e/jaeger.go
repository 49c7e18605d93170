package e2e

import (
	"context"
	"encoding/json"
	"fmt"
)

// jaeger is the platform's, asked through the API server.
type jaeger struct{ *namespace }

// span is one of a trace, as Jaeger tells it.
type span struct {
	TraceID, SpanID, OperationName, ProcessID string
	References                                []reference
	Tags                                      []tag
	service, pod                              string // of its process
}

// reference is how Jaeger tells parents (CHILD_OF) and links (FOLLOWS_FROM).
type reference struct{ RefType, TraceID, SpanID string }

type tag struct {
	Key   string
	Value any
}

func (s span) parent() (spanID string) {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" && r.TraceID == s.TraceID {
			return r.SpanID
		}
	}
	return ""
}

// links are the references to other traces, or to what is not its parent.
func (s span) links() (links []reference) {
	for _, r := range s.References {
		if r.SpanID != s.parent() {
			links = append(links, r)
		}
	}
	return links
}

// trace is the spans of one trace; none if Jaeger does not have it.
func (j jaeger) trace(ctx context.Context, id string) ([]span, error) {
	return j.spans(ctx, "/api/traces/"+id, nil)
}

// named are the spans of some recent traces that have this service and name in them.
func (j jaeger) named(ctx context.Context, service, operation string) ([]span, error) {
	return j.spans(ctx, "/api/traces", map[string]string{"service": service, "operation": operation, "limit": "20", "lookback": "1h"})
}

func (j jaeger) spans(
	ctx context.Context, path string, parameters map[string]string,
) (all []span, err error) {
	body, err := j.kube.CoreV1().Services(j.name).ProxyGet("http", "platform-jaeger", "16686", path, parameters).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("jaeger %s %v: %w %s", path, parameters, err, body)
	}
	var answer struct {
		Data []struct {
			Spans     []span
			Processes map[string]struct {
				ServiceName string
				Tags        []tag
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("jaeger %s: %w", path, err)
	}
	for _, trace := range answer.Data {
		for _, s := range trace.Spans {
			process := trace.Processes[s.ProcessID]
			s.service = process.ServiceName
			for _, t := range process.Tags {
				if t.Key == "k8s.pod.name" {
					s.pod = fmt.Sprint(t.Value)
				}
			}
			all = append(all, s)
		}
	}
	return all, nil
}
