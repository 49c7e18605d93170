package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// checker collects what the files ask and what is wrong with them.
type checker struct {
	// known are the metrics that the programs register.
	known  names
	values map[string]*string // that stand for variables
	uids   map[string]string  // of dashboards, and the files where they are
	documented

	queries                          []query
	problems, selectors, expressions []string
}

// query is what a target of a panel, or a rule, asks Prometheus.
type query struct {
	file, title, text string
	records           string // the metric that a rule makes of it
	rule, hidden      bool   // hidden is what is not drawn: lists of variables, marks on panels
}

// wrong reports a problem with a panel, a rule or a name in a file.
func (c *checker) wrong(file, title, format string, args ...any) {
	c.problems = append(
		c.problems,
		fmt.Sprintf("%s: %q: %s", file, title, fmt.Sprintf(format, args...)),
	)
}

// check reads all files before it checks any query, because a rule may use what another file
// records.
func (c *checker) check(files []string) {
	documents := false
	for _, file := range files {
		// Files that are neither dashboards nor documents are rules.
		read := c.readRules
		switch filepath.Ext(file) {
		case ".json":
			read = c.readDashboard
		case ".md":
			read, documents = c.readDocument, true
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = read(file, text)
		}
		if err != nil {
			c.wrong(file, "", "%v", err)
		}
	}
	// Without any document every metric would be undocumented.
	if documents {
		c.undocumented()
	}
	recorded := map[string]bool{}
	for _, q := range c.queries {
		recorded[q.records] = true
	}
	for _, q := range c.queries {
		c.query(q, recorded)
	}
}

// readRules takes the queries of a file of Prometheus rules. It leaves it to promtool to say
// whether the rest of the file is right.
func (c *checker) readRules(file string, text []byte) error {
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		return err
	}
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			c.queries = append(
				c.queries,
				// One of Alert and Record is empty.
				query{file: file, title: r.Alert + r.Record, text: r.Expr, records: r.Record, rule: true},
			)
		}
	}
	return nil
}

// query parses a query, and checks what it selects and groups by.
// because a person that opens one need not have the rules.
func (c *checker) query(q query, recorded map[string]bool) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.text)
	if err != nil {
		c.wrong(q.file, q.title, "%v in %s", err, q.text)
		return
	}
	line := q.file + "\t" + q.title + "\t"
	if !q.hidden {
		// The form is the parser's, in which two queries that mean the same look the same.
		c.expressions = append(c.expressions, line+expr.String())
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		// A label that no metric has would put everything into one group.
		for _, label := range groupedBy(node) {
			if !c.known.labels[label] {
				c.wrong(q.file, q.title, "no label is called %q", label)
			}
		}
		v, ok := node.(*parser.VectorSelector)
		switch {
		case !ok || q.rule && recorded[v.Name]:
		case c.known.series[v.Name] == nil:
			c.wrong(q.file, q.title, "no metric is called %q", v.Name)
		default:
			for _, m := range v.LabelMatchers {
				if !c.known.hasLabel(v.Name, m.Name) {
					c.wrong(q.file, q.title, "%s has no label %q", v.Name, m.Name)
				}
			}
			// Without offset and @, which are not part of a selector.
			c.selectors = append(
				c.selectors,
				line+(&parser.VectorSelector{Name: v.Name, LabelMatchers: v.LabelMatchers}).String(),
			)
		}
		return nil
	})
}

// groupedBy are the labels by which one part of an expression groups or matches.
func groupedBy(node parser.Node) []string {
	switch n := node.(type) {
	case *parser.AggregateExpr:
		return n.Grouping
	// on, ignoring, group_left and group_right name labels as well.
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			return slices.Concat(n.VectorMatching.MatchingLabels, n.VectorMatching.Include)
		}
	}
	return nil
}

// builtIn are the variables that Grafana itself gives.
var builtIn = []string{"__interval", "__range", "__rate_interval"}

// variable matches $name, ${name} and ${name:format}.
var variable = regexp.MustCompile(`\$\{?(\w+)(?::\w+)?\}?`)

// expand puts values in place of variables, which are defined in the dashboard or by Grafana.
func (c *checker) expand(q query, defined []string) query {
	text := q.text
	q.text = variable.ReplaceAllStringFunc(text, func(found string) string {
		name := variable.FindStringSubmatch(found)[1]
		if !slices.Contains(defined, name) && !slices.Contains(builtIn, name) {
			c.wrong(q.file, q.title, "no variable is called %q", name)
		}
		if value := c.values[name]; value != nil {
			// It is a regular expression, or a duration for the variables of Grafana itself.
			return *value
		}
		// Other variables have several values, which select by a regular expression.
		return ".+"
	})
	return q
}
