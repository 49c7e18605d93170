// Command chartrendered checks files that helm template has rendered for what Helm and the schema
// of the values do not see and other programs that read the files refuse: keys and entries that are
// there twice, names and labels that Kubernetes does not take, strings and integers that YAML reads
// as something else, selectors that do not find their pods, Services that publish what is for the inside
// of the cluster, and network policies whose ports are not those in use.
//
//	helm template quartet charts/quartet >rendered.yaml && go -C tools run ./chartrendered rendered.yaml
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// main checks each file that is named, and reports the problems of all before it fails.
func main() {
	log.SetFlags(0)
	log.SetPrefix("chartrendered: ")
	failed := false
	for _, name := range os.Args[1:] {
		// A file that cannot be opened is a mistake of the caller, and no problem of the chart.
		file, err := os.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		for _, problem := range check(file) {
			log.Printf("%s: %s", name, problem)
			failed = true
		}
		file.Close()
	}
	if failed {
		log.Fatal("some files are not as they should be")
	}
}

// node is a mapping of YAML.
type node = map[string]any

// check returns what is wrong with the resources of a file.
func check(file io.Reader) (problems []string) {
	var resources []node
	// helm template writes all resources into one stream, as documents of YAML.
	for documents := yaml.NewDecoder(file); ; {
		var resource node
		if err := documents.Decode(&resource); errors.Is(err, io.EOF) {
			break
		} else if err != nil { // This includes a key that is there twice.
			return append(problems, err.Error())
		}
		// A template that renders nothing leaves an empty document behind.
		if resource != nil {
			resources = append(resources, resource)
		}
	}
	if len(resources) == 0 {
		problems = append(problems, "there is nothing in it")
	}
	// All resources are in the namespace of the release, so that kind and name tell them apart.
	seen := map[string]bool{}
	for _, resource := range resources {
		name := fmt.Sprintf("%v %v", resource["kind"], at(resource, "metadata", "name"))
		if seen[name] {
			problems = append(problems, name+" is there twice")
		}
		seen[name] = true
		// Each problem begins with the resource that has it.
		for _, problem := range slices.Concat(checkResource(resource), checkNode("", resource)) {
			problems = append(problems, name+": "+problem)
		}
	}
	return append(problems, checkPolicies(resources)...)
}

var (
	// goodName is the form of the names of Services (RFC 1035, at most 63 characters), which are part
	// of DNS names. Other resources of the chart are named by the same helpers, and so have to fit as
	// well.
	goodName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// freeNamed are kinds whose names may have other forms.
	freeNamed = regexp.MustCompile(
		`^(APIService|ClusterRole|ClusterRoleBinding|RoleBinding|ClusterTrustBundle)$`,
	)
	// goodLabel is the form of the value of a label: at most 63 characters, or none.
	goodLabel = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
	// textField is a field whose value is a string.
	textField = regexp.MustCompile(`(?i)(name|namespace|^interval)$`)
	// goodImage is a name with a tag or a digest. Without one of them a node would pull whatever is
	// the latest.
	goodImage = regexp.MustCompile(
		`^[a-z0-9][a-zA-Z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$`,
	)
)

// checkResource checks the name of a resource, of a Service what it publishes, and of a Deployment
// that its selector fits its pods.
func checkResource(resource node) (problems []string) {
	name := fmt.Sprint(at(resource, "metadata", "name"))
	if !freeNamed.MatchString(fmt.Sprint(resource["kind"])) && !goodName.MatchString(name) {
		problems = append(problems, "Kubernetes does not take this name")
	}
	if resource["kind"] == "Service" {
		problems = append(problems, checkService(resource)...)
	}
	if resource["kind"] != "Deployment" {
		return problems
	}
	// A Deployment with a selector that its own template does not have is refused by the API server.
	labels, _ := at(resource, "spec", "template", "metadata", "labels").(node)
	selector, _ := at(resource, "spec", "selector", "matchLabels").(node)
	if len(selector) == 0 {
		problems = append(problems, "it selects nothing")
	}
	for key, value := range selector {
		if labels[key] != value {
			problems = append(
				problems,
				fmt.Sprintf("it selects pods with %s=%v, and its own have %v", key, value, labels[key]),
			)
		}
	}
	return problems
}

// internalPorts are the ports of pods that only peers in the cluster may reach: metrics and probes.
var internalPorts = []string{"http", "probe"}

// checkService checks that a Service has ports, and, if it has an address outside of the cluster,
// only those that are for peers there.
func checkService(service node) (problems []string) {
	ports := asList(at(service, "spec", "ports"))
	if len(ports) == 0 {
		problems = append(problems, "it has no ports")
	}
	// Without a type it is ClusterIP.
	kind := at(service, "spec", "type")
	if kind == nil || kind == "ClusterIP" {
		return problems
	}
	for _, port := range ports {
		if target := fmt.Sprint(asNode(port)["targetPort"]); slices.Contains(internalPorts, target) {
			problems = append(problems, fmt.Sprintf("it is a %v, and publishes the port %s", kind, target))
		}
	}
	return problems
}

// checkNode goes through everything below a node, in the order of the keys, so that problems come
// in the same order each time. where is the path to the node, with a dot before it.
func checkNode(where string, value any) (problems []string) {
	switch value := value.(type) {
	case node:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			problems = append(problems, checkField(where+"."+key, key, value[key])...)
		}
	case []any:
		for i, entry := range value {
			problems = append(problems, checkNode(fmt.Sprintf("%s[%d]", where, i), entry)...)
		}
	}
	return problems
}

// checkField checks the value of one key: what its name says about the value, the type that YAML
// gives it, and, of a list, that no two entries are the same to Kubernetes.
func checkField(where, key string, value any) (problems []string) {
	say := func(format string, args ...any) {
		problems = append(problems, where[1:]+": "+fmt.Sprintf(format, args...))
	}
	switch key {
	case "labels", "matchLabels", "nodeSelector", "annotations", "data":
		// The values of all of these are strings. true, 1 and 1.0 have to be quoted in YAML to be one.
		for name, text := range asNode(value) {
			if text, ok := text.(string); !ok ||
				key != "annotations" && key != "data" && !goodLabel.MatchString(text) {
				say("%s has the value %v", name, text)
			}
		}
	case "image":
		if image := fmt.Sprint(value); !goodImage.MatchString(image) {
			say("%q is no image", image)
		}
	}
	// A name such as 123 or yes is a number or a truth value to YAML, unless it is quoted.
	switch value.(type) {
	case nil, bool, int:
		if textField.MatchString(key) {
			say("%v is no string", value)
		}
	// 1e3 and 1.10 become numbers; of resources, quantities such as 0.5 are allowed.
	case float64:
		if !strings.Contains(where, ".resources.") {
			say("%v is neither a string nor an integer", value)
		}
	}
	// Kubernetes merges lists by these fields, and an entry that is there twice replaces the other
	// without a word.
	field := "name"
	if key == "volumeMounts" {
		field = "mountPath"
	}
	seen := map[any]bool{}
	entries, _ := value.([]any)
	for _, entry := range entries {
		entry := asNode(entry)
		// An entry without this field is no object of such a list, and merges with nothing.
		id := entry[field]
		if folder, ok := id.(string); ok && key == "volumeMounts" {
			// /data and /data/ are one place to mount at.
			id = path.Join("/", folder)
		}
		if id != nil && seen[id] {
			say("two entries have the %s %v", field, id)
		} else if id != nil {
			seen[id] = true
		}
		// The API server takes only strings as values of variables.
		if set, ok := entry["value"]; ok && key == "env" {
			if _, ok := set.(string); !ok {
				say("%v is %v, which is no string", entry["name"], set)
			}
		}
	}
	return append(problems, checkNode(where, value)...)
}

// asNode is a value as a mapping, nil (from which every key is missing) if it is none.
func asNode(value any) node {
	inner, _ := value.(node)
	return inner
}

// at is what a node has at a path, or nil.
func at(value any, path ...string) any {
	for _, key := range path {
		value = asNode(value)[key]
	}
	return value
}
