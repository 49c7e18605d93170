package main

import (
	"maps"
	"strings"
	"testing"

	"example.com/quartet/tools/internal/pair"
)

func TestSettingsAreThoseOfTheConfigMaps(t *testing.T) {
	const rendered = `
kind: Secret
data: {A: b}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: server}}
data: {SHOP_A_DIR: /data/a, SHOP_A_MODE: database}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: client}}
data: {SHOP_SERVER: "dns:///x"}
`
	got, err := configMaps(strings.NewReader(rendered), "/tmp/here")
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v (%v), want the settings of two components", got, err)
	}
	if want := map[string]string{"SHOP_A_DIR": "/tmp/here/data/a",
		"SHOP_A_MODE": "database"}; !maps.Equal(got["server"], want) {
		t.Errorf("the server has %v, want %v", got["server"], want)
	}
	if want := map[string]string{"SHOP_SERVER": "dns:///x"}; !maps.Equal(got["client"], want) {
		t.Errorf("the client has %v, want %v", got["client"], want)
	}
}

func TestRefusedVariableIsNamed(t *testing.T) {
	help, err := pair.Help(t.Context(), "../..", "server")
	if err != nil {
		t.Fatal(err)
	}
	prefix, err := pair.PrefixIn(help)
	if err != nil {
		t.Fatal(err)
	}
	rendered := strings.ReplaceAll(`
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: server}}
data: {SHOP_NOTHING: "1"}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: client}}
data: {SHOP_LOG_LEVEL: info}
`, "SHOP_", prefix)
	err = run(t.Context(), "../..", strings.NewReader(rendered))
	if err == nil || !strings.Contains(err.Error(), prefix+"NOTHING") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

func TestSettingsOfAnotherProductAreRefused(t *testing.T) {
	const rendered = `
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: server}}
data: {ANOTHER_LOG_LEVEL: info}
---
kind: ConfigMap
metadata: {labels: {app.kubernetes.io/component: client}}
data: {ANOTHER_LOG_LEVEL: info}
`
	err := run(t.Context(), "../..", strings.NewReader(rendered))
	if err == nil || !strings.Contains(err.Error(), "ANOTHER_LOG_LEVEL") {
		t.Errorf("got %v, want an error that says which variables there are", err)
	}
}
