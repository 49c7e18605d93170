package main

import (
	"strings"
	"testing"
)

const good = `
kind: Deployment
metadata: {name: a, labels: {b: c}}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a, more: ""}, annotations: {x: "any text"}}
    spec:
      containers:
        - {image: "localhost:5000/a/b:1.2.3_build.7", env: [{name: A, value: "1"}, {name: B}], volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /b}], resources: {limits: {cpu: 0.5}}}
---
# nothing
---
kind: Service
metadata: {name: a}
spec: {type: LoadBalancer, ports: [{name: grpc, port: 50051, targetPort: grpc}]}
`

func TestGoodFile(t *testing.T) {
	if problems := check(strings.NewReader(good)); problems != nil {
		t.Errorf("got %q", problems)
	}
}

func TestBadFiles(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{good, "", "there is nothing in it"},
		{"{b: c}", "{b: c, b: d}", `mapping key "b" already defined`},
		{"kind: Service", "kind: Deployment", "Deployment a is there twice"},
		{"name: a, labels", "name: my.app, labels", "Kubernetes does not take this name"},
		{"name: a, labels", "name: MyApp, labels", "Kubernetes does not take this name"},
		{"name: a, labels", "name: 1a, labels", "Kubernetes does not take this name"},
		{"{app: a}", "{app: b}", "selects pods with app=b, and its own have a"},
		{"{app: a}", "{}", "selects nothing"},
		{"{b: c}", "{b: 1.2.3+build.7}", "b has the value 1.2.3+build.7"},
		{"{b: c}", "{b: 1}", "metadata.labels: b has the value"},
		{`{x: "any text"}`, "{x: true}", "x has the value"},
		{"1.2.3_build.7", "1.2.3+build.7", "is no image"},
		{`value: "1"`, "value: 1", "A is 1, which is no string"},
		{"{name: B}", "{name: A}", "spec.template.spec.containers[0].env: two entries have the name A"},
		{"name: v, mountPath: /b", "name: 1, mountPath: /b", "volumeMounts[1].name: 1 is no string"},
		{"name: v, mountPath: /b", "name: true, mountPath: /b", "true is no string"},
		{"name: v, mountPath: /b", "name: null, mountPath: /b", "<nil> is no string"},
		{"name: v, mountPath: /b", "name: 1e3, mountPath: /b", "1000 is neither a string nor an integer"},
		{"kind: Service", "data: {a: 1}\nkind: Service", "data: a has the value"},
		{"kind: Service", "replicas: 1e+06\nkind: Service", "replicas: 1e+06 is neither a string nor an integer"},
		{"targetPort: grpc", "targetPort: http", "Service a: it is a LoadBalancer, and publishes the port http"},
		{"targetPort: grpc", "targetPort: probe", "publishes the port probe"},
		{"ports: [{name: grpc, port: 50051, targetPort: grpc}]", "ports:", "Service a: it has no ports"},
		{"mountPath: /b", "mountPath: /a/", "two entries have the mountPath /a"},
		{"mountPath: /b", "mountPath: /a", "two entries have the mountPath /a"},
	} {
		if problems := strings.Join(check(strings.NewReader(strings.Replace(good, test.old, test.new,
			1))), "\n"); !strings.Contains(problems, test.want) {
			t.Errorf("with %s: got %q, want %q", test.new, problems, test.want)
		}
	}
}
