package measure

import (
	"fmt"
	"io"
	"strings"
)

// Table is a table in Markdown.
type Table struct {
	header []string
	rows   [][]string
}

// NewTable begins a table.
func NewTable(header ...string) *Table { return &Table{header: header} }

// Add adds a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes the table and an empty line.
func (t *Table) Print(w io.Writer) {
	rule := make([]string, len(t.header))
	for i := range rule {
		rule[i] = "---"
	}
	for _, row := range append([][]string{t.header, rule}, t.rows...) {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintln(w)
}
