package main

import (
	"maps"
	"strings"
	"testing"
)

func TestSettingsAreThoseOfTheConfigMaps(t *testing.T) {
	const rendered = `
kind: Secret
data: {A: b}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: server}}
data: {QUARTET_A_DIR: /data/a, QUARTET_A_MODE: database}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: client}}
data: {QUARTET_SERVER: "dns:///x"}
`
	got, err := configMaps(strings.NewReader(rendered), "/tmp/here")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v (%v), want the settings of two components", got, err)
	}
	if want := map[string]string{"QUARTET_A_DIR": "/tmp/here/data/a", "QUARTET_A_MODE": "database"}; !maps.Equal(got["server"], want) {
		t.Errorf("the server has %v, want %v", got["server"], want)
	}
	if want := map[string]string{"QUARTET_SERVER": "dns:///x"}; !maps.Equal(got["client"], want) {
		t.Errorf("the client has %v, want %v", got["client"], want)
	}
}

func TestRefusedVariableIsNamed(t *testing.T) {
	const rendered = `
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: server}}
data: {QUARTET_NOTHING: "1"}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: client}}
data: {QUARTET_LOG_LEVEL: info}
`
	err := run(t.Context(), "../..", strings.NewReader(rendered))
	if err == nil || !strings.Contains(err.Error(), "QUARTET_NOTHING") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}
