// Command chartschema makes the schema of the chart's values from four sources: values.base.schema.json, which is written
// by hand; values.yaml, whose values are required, so that null or an upgrade with the values of an older chart is answered
// with the name of what is missing; the values.schema.json of each service; and the variables that server and client list
// with --help, which are the names that server.config and client.config may have. Variables that the chart sets itself are
// left out; each has to be one of a program's.
//
//	go -C tools run ./chartschema [-check]
//
// With -check it writes nothing and fails if the file is stale.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"example.com/quartet/tools/internal/pair"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("chartschema: ")
	check := flag.Bool("check", false, "fail if the schema is stale, and leave it as it is")
	root := flag.String("root", "..", "the `folder` of the repository")
	flag.Parse()
	if err := run(context.Background(), *root, *check); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, root string, check bool) error {
	schema, err := assemble(os.DirFS(filepath.Join(root, "charts", "quartet")), func(program string) (string, error) {
		return pair.Help(ctx, root, program)
	})
	if err != nil {
		return err
	}
	file := filepath.Join(root, "charts", "quartet", "values.schema.json")
	if !check {
		return os.WriteFile(file, schema, 0o644)
	}
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, schema) {
		return errors.Join(err, errors.New("charts/quartet/values.schema.json is stale: run make generate"))
	}
	return nil
}

// node is an object in a JSON schema.
type node = map[string]any

// assemble takes a chart, and what gives it the help of a program.
func assemble(chart fs.FS, help func(program string) (string, error)) ([]byte, error) {
	var schema node
	if err := read(chart, "values.base.schema.json", &schema); err != nil {
		return nil, err
	}
	schema["$comment"] = "Made by make generate. Edit values.base.schema.json, or the schema of a service."

	text, err := fs.ReadFile(chart, "values.yaml")
	if err != nil {
		return nil, err
	}
	var defaults node
	if err := yaml.Unmarshal(text, &defaults); err != nil {
		return nil, fmt.Errorf("values.yaml: %w", err)
	}
	definitions, _ := schema["definitions"].(node)
	require(schema, defaults, definitions)

	files, err := fs.Glob(chart, "services/*/values.schema.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		var service node
		if err := read(chart, file, &service); err != nil {
			return nil, err
		}
		if err := add(schema, service, "services", filepath.Base(filepath.Dir(file))); err != nil {
			return nil, err
		}
	}

	set, err := setByChart(chart)
	if err != nil {
		return nil, err
	}
	unknown := maps.Clone(set)
	for _, program := range []string{"server", "client"} {
		text, err := help(program)
		if err != nil {
			return nil, err
		}
		prefix, err := pair.PrefixIn(text)
		if err != nil {
			return nil, fmt.Errorf("%s --help: %w", program, err)
		}
		listed := regexp.MustCompile(`(?m)^  `+prefix+`([A-Z0-9_]+) `).FindAllStringSubmatch(text, -1)
		for _, found := range listed {
			delete(unknown, found[1])
			if set[found[1]] {
				continue
			}
			kind := "setting"
			if strings.HasSuffix(found[1], "_SERVER") {
				kind = "target"
			}
			if err := add(schema, node{"$ref": "#/definitions/" + kind}, program, "config", found[1]); err != nil {
				return nil, err
			}
		}
	}

	if len(unknown) > 0 {
		return nil, fmt.Errorf("the chart sets variables that no program has: %v", slices.Sorted(maps.Keys(unknown)))
	}

	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(schema)
	return made.Bytes(), err
}

// require has a schema ask for the values that have a default which is not empty: the templates rely on them. What is empty
// by default may be missing. Helm takes null for an order to forget the default.
func require(schema, defaults, definitions node) {
	if reference, ok := schema["$ref"].(string); ok {
		schema, _ = definitions[filepath.Base(reference)].(node)
	}
	properties, ok := schema["properties"].(node)
	if !ok {
		return
	}
	var required []string
	for name, value := range defaults {
		if value == nil || reflect.DeepEqual(value, "") || reflect.DeepEqual(value, []any{}) || reflect.DeepEqual(value, node{}) {
			continue
		}
		required = append(required, name)
		property, isProperty := properties[name].(node)
		if inner, isMap := value.(node); isProperty && isMap {
			require(property, inner, definitions)
		}
	}
	if len(required) > 0 {
		slices.Sort(required)
		schema["required"] = required
	}
}

// variable is one of the programs in a template, which has the prefix from the chart's helper.
var variable = regexp.MustCompile(`include "quartet\.prefix" \.\)* }}([A-Z0-9_]+)`)

// setByChart finds the variables that the templates of the chart and of services name.
func setByChart(chart fs.FS) (map[string]bool, error) {
	set := map[string]bool{}
	err := fs.WalkDir(chart, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasPrefix(path, "templates/") && filepath.Base(path) != "server.yaml" {
			return err
		}
		text, err := fs.ReadFile(chart, path)
		for _, found := range variable.FindAllSubmatch(text, -1) {
			set[string(found[1])] = true
		}
		return err
	})
	return set, err
}

// add puts a schema below schema, where the values have this path.
func add(schema, what node, path ...string) error {
	for i, name := range path {
		properties, ok := schema["properties"].(node)
		if !ok {
			return fmt.Errorf("values.base.schema.json has no properties above %s", strings.Join(path[:i+1], "."))
		}
		if i == len(path)-1 {
			properties[name] = what
			break
		}
		if schema, ok = properties[name].(node); !ok {
			return fmt.Errorf("values.base.schema.json has no %s", strings.Join(path[:i+1], "."))
		}
	}
	return nil
}

func read(chart fs.FS, file string, into *node) error {
	text, err := fs.ReadFile(chart, file)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
