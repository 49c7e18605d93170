package project

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"example.com/quartet/tools/internal/lock"
)

// rule replaces what matches a pattern. ${1} and ${2} in the replacement are what groups of the
// pattern have matched.
type rule struct{ pattern, replacement string }

// productRules say what becomes of each form of the product's name. The first one that matches
// somewhere decides.
func productRules(l lock.Lock) []rule {
	// Variables have underscores where the name has dashes.
	upper := strings.ToUpper(snake(l.Name))
	return []rule{
		{`example\.com/quartet\b`, l.Module},
		{`quartet(v[0-9]+)\b`, goName(l.Name) + "${1}"}, // the Go name of the contract's package
		// the package of the contract, in Protobuf, as a path and in generated names
		{`quartet([./_]v[0-9]+)`, goName(l.Name) + "${1}"},
		{`([Pp]ackage) quartet\b`, "${1} " + goName(l.Name)},  // the package at the root
		{`\bquartet(\.[A-Z])`, goName(l.Name) + "${1}"},       // what is in it
		{`\b(gen|proto)/quartet\b`, "${1}/" + goName(l.Name)}, //
		{`QUARTET`, upper}, // variables
		{`([A-Za-z0-9_])Quartet`, "${1}" + camel(l.Name)},       // identifiers
		{`Quartet(\w|\.\*)`, camel(l.Name) + "${1}"},            // and alerts
		{`Quartet`, title(l.Name)},                              // titles and prose
		{`(#)quartet([a-z])`, "${1}" + goName(l.Name) + "${2}"}, // headings of alerts
		// metrics, rules, what Skaffold calls images
		{`quartet(_|\)_|:[a-z])`, snake(l.Name) + "${1}"},
		{`(_)quartet\b`, "${1}" + snake(l.Name)},                     //
		{`quartet(\.(?:ya?ml|json|tgz|txt|log)\b)`, l.Name + "${1}"}, // files
		// attributes of spans, templates of the chart
		{`quartet(\\?\.[a-z%])`, snake(l.Name) + "${1}"},
		// the chart, its resources, images, the cluster
		{`quartet`, l.Name},
	}
}

// serviceRules say what becomes of each form of the name of EchoService. They are for prose too, so
// that what is no service, as the command echo of shells, has to be left out by path.
func serviceRules(name string) []rule {
	folder := strings.ToLower(name)
	return []rule{
		// Plurals come before the singular, which is part of them.
		{`ECHOES`, strings.ToUpper(plural(folder))},
		{`ECHO`, strings.ToUpper(folder)},
		{`Echoes`, plural(name)},
		{`echoes`, plural(folder)},
		// The verb does not fit another name.
		{`echoed`, "sent back"},
		{`([a-z])Echo`, "${1}" + name},
		{`Echo`, name},
		{`\becho([A-Z])`, lowerFirst(name) + "${1}"},
		{`echo`, folder},
	}
}

// hasOtherEcho says of which files the word echo is not about the service: shared packages, tools,
// and what shells read.
func hasOtherEcho(file string) bool {
	switch path.Ext(file) {
	case ".go", ".proto", ".md", ".yaml", ".json", ".tpl", ".txt":
		return strings.HasPrefix(file, "internal/") || strings.HasPrefix(file, "tools/") ||
			strings.HasPrefix(file, ".")
	}
	return true
}

// replacer applies rules one after another. What a rule has put in place contains none of what the
// later ones look for.
type replacer struct {
	// patterns and with have the same order.
	patterns []*regexp.Regexp
	with     []string
}

// newReplacer compiles rules, which are ours: one that does not compile is a mistake here.
func newReplacer(rules []rule) replacer {
	var r replacer
	for _, rule := range rules {
		r.patterns = append(r.patterns, regexp.MustCompile(rule.pattern))
		r.with = append(r.with, rule.replacement)
	}
	return r
}

// replace applies all rules to a text.
func (r replacer) replace(text string) string {
	for i, pattern := range r.patterns {
		text = pattern.ReplaceAllString(text, r.with[i])
	}
	return text
}

// rename applies rules to the files below a folder that are not left out, and to their paths.
func rename(root string, rules []rule, leftOut func(file string) bool) error {
	r := newReplacer(rules)
	files, err := files(root)
	if err != nil {
		return err
	}
	for _, file := range files {
		if leftOut(file) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		// A file with a zero byte is no text, such as an image.
		if bytes.IndexByte(text, 0) < 0 {
			renamed := r.replace(string(text))
			if path.Ext(file) == ".md" {
				renamed = align(string(text), renamed)
			}
			if err := rewrite(filepath.Join(root, file), renamed); err != nil {
				return err
			}
		}
		// The path has names as well.
		if to := r.replace(file); to != file {
			if err := move(root, file, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// beside is a line with something beside it, two blanks away at least: a command and a comment, a
// name and what it is.
var beside = regexp.MustCompile(`^( *\S(?:\S| \S)*?)  +(\S.*)$`)

// align puts below each other again what was so before names of other lengths came into a document,
// in lines that follow each other. Both texts have the same lines.
func align(before, after string) string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	// column is where the second part of a line begins, 0 if it has none.
	column := func(line string) int {
		if at := beside.FindStringSubmatchIndex(line); at != nil {
			return utf8.RuneCountInString(line[:at[4]])
		}
		return 0
	}
	for i := 0; i < len(was); {
		end, from := i, column(was[i])
		for end < len(was) && column(was[end]) == from {
			end++
		}
		if from > 0 {
			to := from
			parts := make([][]string, 0, end-i)
			for _, line := range is[i:end] {
				part := beside.FindStringSubmatch(line)
				if parts = append(parts, part); part != nil {
					to = max(to, utf8.RuneCountInString(part[1])+2)
				}
			}
			for j, part := range parts {
				if part != nil {
					is[i+j] = part[1] + strings.Repeat(" ", to-utf8.RuneCountInString(part[1])) + part[2]
				}
			}
		}
		i = end
	}
	return strings.Join(is, "\n")
}

// move gives a file another path, which must be free, and removes the folders that it leaves empty.
func move(root, from, to string) error {
	// Two files that get one name would be a file that is lost.
	if _, err := os.Lstat(filepath.Join(root, to)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s cannot become %s, which is there already", from, to))
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
		return err
	}
	// os.Remove removes a folder only if it is empty.
	for folder := path.Dir(from); folder != "." && os.Remove(filepath.Join(root, folder)) == nil; {
		folder = path.Dir(folder)
	}
	return nil
}

// Leftovers are the places below a folder that still have a name of the template, as path:line:
// text.
func Leftovers(root string, l lock.Lock) ([]string, error) {
	files, err := files(root)
	if err != nil {
		return nil, err
	}
	// The product's name is looked for in any case and inside other words, since nothing else has it.
	product := regexp.MustCompile(`(?i)` + oldName)
	// echo is a word of its own in shells and prose, so that only forms that mean the service count.
	service := regexp.MustCompile(
		`EchoService|Echo(Request|Response)|[Ee]cho_?[Cc]ommand|ECHO_|\b[Ee]choes\b|/echo\b|\becho\.(proto|md|go|Service)`,
	)
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		old := func(line string) bool {
			// The path of the module is the adopter's choice, and may have such a word.
			line = strings.ReplaceAll(line, l.Module, "")
			if l.Service != "" && !hasOtherEcho(file) && service.MatchString(line) {
				return true
			}
			return product.MatchString(line)
		}
		// A path counts as a place, too.
		if old(file) {
			found = append(found, file)
		}
		// Lines are counted from 1, as editors do.
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			// Where the template is has its name.
			if old(line) && (file != lock.Name || !strings.Contains(line, `"template":`)) {
				found = append(found, fmt.Sprintf("%s:%d: %s", file, number, strings.TrimSpace(line)))
			}
		}
	}
	return found, nil
}

// gofmt formats the Go files below a folder, in which renamed imports have other places. The
// package at the root is imported with its name where its path does not show it.
func gofmt(root string, l lock.Lock) error {
	files, err := files(root)
	if err != nil {
		return err
	}
	for _, file := range files {
		if path.Ext(file) != ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if assumedName(l.Module) != goName(l.Name) {
			// goimports would add the name itself, but it is not needed here for anything else.
			text = regexp.MustCompile(`(?m)^(import |\t)"`+regexp.QuoteMeta(l.Module)+`"$`).
				ReplaceAll(text, []byte(`${1}`+goName(l.Name)+` "`+l.Module+`"`))
		}
		formatted, err := format.Source(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := rewrite(filepath.Join(root, file), string(formatted)); err != nil {
			return err
		}
	}
	return nil
}

// rewrite replaces the content of a file, and keeps its mode.
func rewrite(file, text string) error {
	// Without O_CREATE the mode stays, which says of scripts that they can be run.
	to, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = to.WriteString(text)
	return errors.Join(err, to.Close())
}

// files are the regular files below a folder, as paths from it with slashes, without what git keeps
// for itself.
func files(root string) (all []string, err error) {
	err = fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if err == nil && entry.Type().IsRegular() {
			all = append(all, file)
		}
		return err
	})
	return all, err
}
