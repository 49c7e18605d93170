package main

import (
	"regexp"
	"slices"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// board is a dashboard while it is checked.
type board struct {
	*checker
	dashboard.Dashboard
	file    string
	defined []string // the variables before this one
	// ids are the identities of panels that are taken.
	ids map[uint32]bool
}

// readDashboard takes a dashboard as Grafana exports it. A field that Grafana's types do not have
// is an error, since Grafana would ignore it without a word.
func (c *checker) readDashboard(file string, text []byte) error {
	// The SDK decodes the queries of a panel by the type of its data source, which has to be
	// registered.
	plugins.RegisterDefaultPlugins()
	b := &board{checker: c, file: file, ids: map[uint32]bool{}}
	if err := b.UnmarshalJSONStrict(text); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return err
	}
	uid := value(b.Uid)
	// Links between dashboards use uid, and Grafana replaces a dashboard by another with the same one.
	// The tag is how the chart's dashboards find each other.
	if uid == "" || c.uids[uid] != "" || value(b.Title) == "" || !slices.Contains(b.Tags, "quartet") {
		c.wrong(
			file,
			value(b.Title),
			"no title, no tag quartet, or no uid of its own, which %q is not",
			uid,
		)
	}
	c.uids[uid] = file
	for _, v := range b.Templating.List {
		b.variable(v)
	}
	// Annotations are vertical marks, at rollouts for example.
	for _, a := range b.Annotations.List {
		if a.Expr != nil {
			b.source(a.Name, &a.Datasource)
			b.ask(query{title: a.Name, text: *a.Expr, hidden: true})
		}
	}
	// Panels of the whole board, and rows, share one grid.
	var places []dashboard.GridPos
	for _, p := range b.Panels {
		// An entry is a panel or a row, which may have panels inside.
		if p.Panel != nil {
			b.panel(*p.Panel, &places)
			continue
		}
		b.place(value(p.RowPanel.Title), p.RowPanel.Id, p.RowPanel.GridPos, &places)
		var inside []dashboard.GridPos // Panels in a closed row lie where those of the next row do.
		for _, p := range p.RowPanel.Panels {
			b.panel(p, &inside)
		}
	}
	return nil
}

// labelValues matches what Grafana offers for the values of a label. Its selector is checked as a
// query.
var labelValues = regexp.MustCompile(`^label_values\((.+), *\w+\)$`)

// variable may use only those before it: Grafana asks in that order.
func (b *board) variable(v dashboard.VariableModel) {
	if v.Type == dashboard.VariableTypeQuery {
		b.source(v.Name, v.Datasource)
		text := ""
		if v.Query != nil { // Grafana's editor says beside the query in which form it was entered.
			form, _ := v.Query.Map["query"].(string)
			text = value(v.Query.String) + form
		}
		if found := labelValues.FindStringSubmatch(text); found != nil {
			b.ask(query{title: v.Name, text: found[1], hidden: true})
		} else {
			b.wrong(b.file, v.Name, "not label_values(selector, label): %q", text)
		}
	}
	// It is defined after its own query, which must not use it.
	b.defined = append(b.defined, v.Name)
}

// panel checks what its reader needs, and takes its queries.
func (b *board) panel(p dashboard.Panel, places *[]dashboard.GridPos) {
	title := value(p.Title)
	// A panel without an identity counts as 0, which place refuses.
	if p.Id == nil {
		p.Id = new(uint32)
	}
	b.place(title, *p.Id, p.GridPos, places)
	if _, known := cog.ConfigForPanelcfgVariant(p.Type); !known {
		b.wrong(b.file, title, "Grafana has no panel %q", p.Type)
	}
	if title == "" || value(p.Description) == "" || p.FieldConfig == nil ||
		value(p.FieldConfig.Defaults.Unit) == "" {
		b.wrong(b.file, title, "no title, no unit, or no description that says what good looks like")
	}
	// A panel has a data source, and so has each of its targets.
	b.source(title, p.Datasource)
	if len(p.Targets) == 0 {
		b.wrong(b.file, title, "asks nothing")
	}
	// Expressions of a panel refer to its targets by these names.
	refs := map[string]bool{}
	for _, target := range p.Targets {
		t, ok := target.(*prometheus.Dataquery)
		if !ok { // The SDK knows what a target is by the data source in it.
			b.wrong(b.file, title, "a target does not say that its data source is Prometheus")
			continue
		}
		if refs[value(t.RefId)] {
			b.wrong(b.file, title, "two targets are called %q", value(t.RefId))
		}
		refs[value(t.RefId)] = true
		b.source(title, t.Datasource)
		b.ask(query{title: title, text: t.Expr})
	}
}

// place checks that a panel has an identity and a place of its own. Grafana moves panels that
// overlap, and so shows another board than the file describes.
func (b *board) place(title string, id uint32, at *dashboard.GridPos, places *[]dashboard.GridPos) {
	if id == 0 || b.ids[id] {
		b.wrong(b.file, title, "its id %d is another panel's, or none", id)
	}
	b.ids[id] = true
	if at == nil || at.W == 0 || at.H == 0 || at.X+at.W > 24 {
		b.wrong(b.file, title, "no place within the grid's 24 columns")
		return
	}
	for _, o := range *places {
		// Two rectangles overlap if they do in both directions.
		if at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H {
			b.wrong(b.file, title, "lies on the panel at x %d, y %d", o.X, o.Y)
		}
	}
	*places = append(*places, *at)
}

// ask takes a query of the board, with values in place of the variables that are defined so far.
func (b *board) ask(q query) {
	q.file = b.file
	b.queries = append(b.queries, b.expand(q, b.defined))
}

// source must be the variable: the data sources of an operator's Grafana are not known here.
func (b *board) source(title string, ref *common.DataSourceRef) {
	if ref == nil || value(ref.Type) != "prometheus" || value(ref.Uid) != "${datasource}" {
		b.wrong(b.file, title, `its data source is not {"type": "prometheus", "uid": "${datasource}"}`)
	}
}

// value is what an optional field has, or else empty.
func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
