package main

import (
	"strings"
	"testing"
)

const policed = `
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - ports: [{name: grpc, containerPort: 50051}, {name: console, containerPort: 9466}]
          envFrom: [{configMapRef: {name: settings}}]
          env: [{name: A_STORE_URL, value: "store://bucket?endpoint=http%3A%2F%2Fhost.name.svc%3A9000&region=a"}]
---
kind: ConfigMap
metadata: {name: settings}
data: {A_SERVER: "dns:///server.default.svc:50051", A_GRPC_ADDRESS: ":50051", A_TRACE_URL: "https://traces:16686"}
---
kind: Pod
metadata: {name: once, labels: {app: once}}
spec:
  containers:
    - env: [{name: A_SERVER, value: "server:50051"}]
---
kind: NetworkPolicy
metadata: {name: once}
spec:
  podSelector: {matchLabels: {app: once}}
  egress: [{ports: [{port: 53}, {port: 50051}]}]
---
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: a}}
  ingress: [{ports: [{port: grpc}]}]
  egress: [{ports: [{port: 53}]}, {ports: [{port: 50051}]}, {ports: [{port: 9000}]}]
`

func TestPoliciesHaveThePortsInUse(t *testing.T) {
	if problems := check(strings.NewReader(policed)); problems != nil {
		t.Errorf("got %q", problems)
	}
	for _, test := range []struct{ old, new, want string }{
		{"{name: grpc, ", "{name: web, containerPort: 8080}, {name: grpc, ", "no network policy has its port web"},
		{"[{port: grpc}]", "[{port: grpc}, {port: http}]", "has the port http, and the pods have not"},
		{"[{port: 53}]", "[{port: 54}]", "lets it reach the port 53"},
		{"{ports: [{port: 50051}]}, ", "", "lets it reach the port 50051"},
		{"[{port: 9000}]", "[{port: 443}]", "lets it reach the port 9000"},
		{"podSelector: {matchLabels: {app: a}}", "podSelector: {matchLabels: {app: b}}", "no network policy selects its pods"},
		{"podSelector: {matchLabels: {app: once}}", "podSelector: {matchLabels: {app: b}}", "Pod once: no network policy selects its pods"},
		{"[{port: 53}, {port: 50051}]", "[{port: 53}]", "Pod once: no network policy lets it reach the port 50051"},
	} {
		got := check(strings.NewReader(strings.Replace(policed, test.old, test.new, 1)))
		if len(got) != 1 || !strings.Contains(got[0], test.want) {
			t.Errorf("with %s: got %q, want %q", test.new, got, test.want)
		}
	}
	for _, fine := range [][2]string{
		{"{ports: [{port: 9000}]}", "{to: [{podSelector: {}}]}"}, // all ports
		{"kind: NetworkPolicy", "kind: Other"},
	} {
		if got := check(strings.NewReader(strings.ReplaceAll(policed, fine[0], fine[1]))); got != nil {
			t.Errorf("with %s: got %q", fine[1], got)
		}
	}
}
