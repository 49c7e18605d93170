package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	// quoted is text in backticks, which is how documents write names.
	quoted = regexp.MustCompile("`([^`]+)`")
	// metricName is a name of this product's or of gRPC's metrics, also outside of tables.
	metricName = regexp.MustCompile(`\b(?:grpc_(?:server|client|SIDE)|quartet)_[a-z0-9_]+`)
	// fences are blocks of code. They mention metrics, and describe none.
	fences = regexp.MustCompile("(?s)```.*?```")
)

// documented collects what documents say about metrics.
type documented struct {
	metrics map[string]bool
	groups  []string        // what names begin with, for groups that are not listed one by one
	words   map[string]bool // everything in backticks, which may be a label
}

// readDocument checks that the metrics in a document exist. A row of a table whose second cell is a
// kind of metric describes those in its first, where SIDE stands for server and client, … before a
// name for grpc_SIDE, and … after it for whatever follows.
func (c *checker) readDocument(file string, text []byte) error {
	prose := fences.ReplaceAllString(string(text), "")
	for _, found := range quoted.FindAllStringSubmatch(prose, -1) {
		c.words[found[1]] = true
	}
	for line := range strings.Lines(prose) {
		// A bar inside a cell would be a mistake, since no name of a metric has one.
		cells := strings.Split(line, "|")
		// A row of three cells is split into five parts, as it begins and ends with a bar.
		if len(cells) < 4 {
			continue
		}
		kind := strings.TrimSpace(cells[2])
		described := slices.Contains([]string{"counter", "gauge", "histogram", "summary"}, kind)
		for _, found := range quoted.FindAllStringSubmatch(cells[1], -1) {
			// A group describes all metrics whose names begin with the prefix.
			if prefix, group := strings.CutSuffix(found[1], "…"); group && kind == "" {
				c.groups = append(c.groups, prefix)
			}
			if !described {
				continue
			}
			for _, name := range bothSides(strings.Replace(found[1], "…", "grpc_SIDE", 1)) {
				c.metrics[name] = true
				if registered := c.known.kinds[name]; registered != "" && registered != kind {
					c.wrong(file, name, "a %s, which is registered as a %s", kind, registered)
				}
			}
		}
	}
	// Each unknown name is reported once for a document.
	mentioned := map[string]bool{}
	for _, found := range metricName.FindAllString(strings.ReplaceAll(string(text), "`…", "`grpc_SIDE"), -1) {
		for _, name := range bothSides(found) {
			if c.known.series[name] == nil && !mentioned[name] {
				c.wrong(file, name, "no program registers it")
			}
			mentioned[name] = true
		}
	}
	return nil
}

// bothSides is the name for server and client, where a document writes SIDE for both.
func bothSides(name string) []string {
	if !strings.Contains(name, "SIDE") {
		return []string{name}
	}
	return []string{
		strings.Replace(name, "SIDE", "server", 1),
		strings.Replace(name, "SIDE", "client", 1),
	}
}

// undocumented reports what programs register and no document describes.
func (c *checker) undocumented() {
	const where = "docs"
	for _, name := range slices.Sorted(maps.Keys(c.known.kinds)) {
		begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if slices.ContainsFunc(c.groups, begins) {
			continue
		}
		if !c.metrics[name] {
			c.wrong(where, name, "is registered, and no table describes it")
		}
		// A label needs to be explained somewhere, and not with each metric.
		for _, label := range slices.Sorted(maps.Keys(c.known.series[name])) {
			if !c.words[label] {
				c.wrong(where, name, "no document explains its label %q", label)
			}
		}
	}
}
