package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// chart has two services, and a template that sets one variable of each program.
func chart() fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"values.yaml": "server: {a: 1, b: '', c: {d: false}, e: {}, f: [], g: null, h: {i: 0}, config: {}}\nclient: {}\nservices: {}",
		"values.base.schema.json": `{"definitions": {"h": {"properties": {"i": {}}}}, "properties": {
			"server": {"properties": {"c": {"properties": {}}, "h": {"$ref": "#/definitions/h"}, "config": {"properties": {}}}},
			"client": {"properties": {"config": {"properties": {}}}},
			"services": {"properties": {}}}}`,
		"services/a/values.schema.json": `{"title": "a"}`,
		"services/a/server.yaml":        `config: {{{ include "quartet.prefix" . }}A_URL: ""}`,
		"services/b/server.yaml":        `{}`,
		"templates/_config.tpl":         "{{ include \"quartet.prefix\" . }}HTTP_ADDRESS: x\n{{ include \"quartet.prefix\" . }}SERVER: y\n{{ include \"quartet.prefix\" . }}LOG_FORMAT: z",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func help(program string) (string, error) {
	return map[string]string{
		"server": "Usage\n  SHOP_HTTP_ADDRESS :1 where\n  SHOP_A_URL  url of SHOP_NOTHING\n  SHOP_A_TTL 1h how long\n  SHOP_LOG_FORMAT text how\n",
		"client": "  SHOP_SERVER x where\n  SHOP_A_RATE  5 how often\n  SHOP_A_SERVER x where\n  SHOP_LOG_FORMAT text how\n",
	}[program], nil
}

func TestSchemaHasServicesAndWhatTheChartDoesNotSet(t *testing.T) {
	text, err := assemble(chart(), help)
	if err != nil {
		t.Fatal(err)
	}
	var schema node
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(schema["definitions"])
	if got != "map[h:map[properties:map[i:map[]] required:[i]]]" {
		t.Errorf("the definitions are %s", got)
	}
	properties, err := json.Marshal(schema["properties"])
	want := `{"client":{"properties":{"config":{"properties":{"A_RATE":{"$ref":"#/definitions/setting"},` +
		`"A_SERVER":{"$ref":"#/definitions/target"}}}}},` +
		`"server":{"properties":{"c":{"properties":{},"required":["d"]},"config":{"properties":{"A_TTL":{"$ref":"#/definitions/setting"}}},` +
		`"h":{"$ref":"#/definitions/h"}},"required":["a","c","h"]},` +
		`"services":{"properties":{"a":{"title":"a"}}}}`
	if err != nil || string(properties) != want {
		t.Errorf("got  %s (%v)\nwant %s", properties, err, want)
	}
}

func TestVariableOfTheChartThatNoProgramHasIsAnError(t *testing.T) {
	files := chart()
	files["templates/server/configmap.yaml"] = &fstest.MapFile{
		Data: []byte(`{{ include "quartet.prefix" . }}OLD_NAME: x`),
	}
	if _, err := assemble(files, help); err == nil || !strings.Contains(err.Error(), "[OLD_NAME]") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

func TestProgramThatFailsOrSaysNothingIsAnError(t *testing.T) {
	broken := errors.New("does not build")
	for _, test := range []struct {
		help func(string) (string, error)
		want string
	}{
		{func(string) (string, error) { return "", broken }, "does not build"},
		{func(string) (string, error) { return "usage\n", nil }, "help of server: the help lists no variables"},
	} {
		if _, err := assemble(chart(), test.help); err == nil ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestVariablesOfBothProgramsAreListedOnce(t *testing.T) {
	source, err := list(help)
	want := "var variables = []string{\n\t\"A_RATE\",\n\t\"A_SERVER\",\n\t\"A_TTL\",\n\t\"A_URL\",\n\t\"HTTP_ADDRESS\",\n\t\"LOG_FORMAT\",\n\t\"SERVER\",\n}\n"
	if err != nil || !strings.HasSuffix(string(source), want) {
		t.Errorf("got %s (%v), want %s", source, err, want)
	}
}
