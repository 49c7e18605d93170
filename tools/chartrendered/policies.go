package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// closed has the ports that a policy may leave closed, and which peers use them all the same.
var closed = map[string]string{
	"console": "people, by kubectl port-forward, which reaches a pod from its own node",
}

// checkPolicies compares the ports of network policies with those in use: each container port is in
// a policy for its pod or in the list above, each port of a policy is one of the pod, and each
// address that the settings of a pod name has a port that the pod may reach, beside DNS. Without
// policies there is nothing to compare.
func checkPolicies(resources []node) (problems []string) {
	policies := ofKind(resources, "NetworkPolicy")
	if len(policies) == 0 {
		return nil
	}
	for _, workload := range slices.Concat(ofKind(resources, "Deployment"), ofKind(resources, "Pod")) {
		name := fmt.Sprintf("%v %v", workload["kind"], at(workload, "metadata", "name"))
		labels := asNode(at(podOf(workload), "metadata", "labels"))
		var incoming, outgoing []string
		policed := false
		for _, policy := range policies {
			if !selects(policy, labels) {
				continue
			}
			policed = true
			incoming = append(incoming, ports(at(policy, "spec", "ingress"))...)
			outgoing = append(outgoing, ports(at(policy, "spec", "egress"))...)
		}
		if !policed {
			problems = append(problems, fmt.Sprintf("%s: no network policy selects its pods", name))
			continue
		}
		listening := containerPorts(workload)
		for _, port := range listening {
			if !slices.Contains(incoming, port) && closed[port] == "" {
				problems = append(problems, fmt.Sprintf("%s: no network policy has its port %s", name, port))
			}
		}
		for _, port := range incoming {
			if !slices.Contains(listening, port) {
				problems = append(problems, fmt.Sprintf("%s: a network policy has the port %s, and the pods have not", name, port))
			}
		}
		for _, port := range append([]string{"53"}, addressed(resources, workload)...) {
			// A rule without ports has them all.
			if !slices.Contains(outgoing, port) && !slices.Contains(outgoing, "") {
				problems = append(problems, fmt.Sprintf("%s: no network policy lets it reach the port %s", name, port))
			}
		}
	}
	return problems
}

func ofKind(resources []node, kind string) []node {
	return slices.DeleteFunc(slices.Clone(resources), func(r node) bool { return r["kind"] != kind })
}

// selects tells whether a policy is for pods with these labels.
func selects(policy, labels node) bool {
	for key, value := range asNode(at(policy, "spec", "podSelector", "matchLabels")) {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// ports are the names or numbers of the ports in rules; "" is a rule for all.
func ports(rules any) (all []string) {
	for _, rule := range asList(rules) {
		of := asList(asNode(rule)["ports"])
		if len(of) == 0 {
			all = append(all, "")
		}
		for _, port := range of {
			all = append(all, fmt.Sprint(asNode(port)["port"]))
		}
	}
	return all
}

// podOf is a Pod itself, or the pod that a Deployment makes.
func podOf(workload node) node {
	if workload["kind"] == "Pod" {
		return workload
	}
	return asNode(at(workload, "spec", "template"))
}

func containers(workload node) []any {
	return asList(at(podOf(workload), "spec", "containers"))
}

// containerPorts are the names of the ports at which the containers of a workload listen.
func containerPorts(workload node) (names []string) {
	for _, container := range containers(workload) {
		for _, port := range asList(asNode(container)["ports"]) {
			names = append(names, fmt.Sprint(asNode(port)["name"]))
		}
	}
	return names
}

var (
	// destination is a variable whose value is the address of something that a program calls, link one
	// whose value only a browser follows.
	destination = regexp.MustCompile(`(_SERVER|_URL|OTEL_EXPORTER_OTLP_ENDPOINT)$`)
	link        = regexp.MustCompile(`_(TRACE|DASHBOARD)_URL$`)
	withPort    = regexp.MustCompile(`[^/@,:=]:([0-9]+)(?:[/?&,]|$)`)
)

// addressed are the ports in the addresses that the settings of a workload name.
func addressed(resources []node, workload node) (all []string) {
	settings := node{}
	for _, container := range containers(workload) {
		for _, from := range asList(asNode(container)["envFrom"]) {
			name := at(asNode(from), "configMapRef", "name")
			for _, configMap := range ofKind(resources, "ConfigMap") {
				if at(configMap, "metadata", "name") == name {
					for key, value := range asNode(configMap["data"]) {
						settings[key] = value
					}
				}
			}
		}
		for _, variable := range asList(asNode(container)["env"]) {
			settings[fmt.Sprint(asNode(variable)["name"])] = asNode(variable)["value"]
		}
	}
	for name, value := range settings {
		if !destination.MatchString(name) || link.MatchString(name) {
			continue
		}
		text := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(fmt.Sprint(value))
		for _, found := range withPort.FindAllStringSubmatch(text, -1) {
			if port, err := strconv.Atoi(found[1]); err == nil {
				all = append(all, strconv.Itoa(port))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func asList(value any) []any {
	list, _ := value.([]any)
	return list
}
