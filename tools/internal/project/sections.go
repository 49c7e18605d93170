package project

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Parts of files that not every project has stand between two comments,
//
//	# template:only object channel
//	# template:end
//
// which name the services with which the part stays; the template's own name is never among those
// of a project. The comments are removed, and so is a file of which nothing is left.
var (
	// beginMark matches the comment in all the languages of the tree: shell, YAML, Go, Markdown, Helm.
	beginMark = regexp.MustCompile(
		`^\s*(?:#|//|<!--|\{\{-? ?/\*)\s*template:only ([a-z ]+?)\s*(?:-->|\*/-?\}\})?\s*$`,
	)
	endMark = regexp.MustCompile(
		`^\s*(?:#|//|<!--|\{\{-? ?/\*)\s*template:end\s*(?:-->|\*/-?\}\})?\s*$`,
	)
)

// cutParts removes from the files below a folder the parts that a project with these services does
// not have.
func cutParts(root string, services []string) error {
	files, err := files(root)
	if err != nil {
		return err
	}
	for _, file := range files {
		// The generator, and what it has in mind for projects, describe the comments.
		if strings.HasPrefix(file, "tools/") && file != "tools/lint" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if !bytes.Contains(text, []byte("template:only ")) {
			continue
		}
		kept, err := cutPart(string(text), services)
		if err != nil {
			return fmt.Errorf("%s:%w", file, err)
		}
		if strings.TrimSpace(kept) == "" {
			err = os.Remove(filepath.Join(root, file))
		} else {
			err = rewrite(filepath.Join(root, file), kept)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cutPart removes from a text the parts that a project with these services does not have, and the
// comments around those that stay. Its errors begin with the number of a line.
func cutPart(text string, services []string) (string, error) {
	var kept strings.Builder
	// began is the line where the part began that is open, 0 outside of one; stays says whether lines
	// are kept.
	began, stays := 0, true
	// blank says that empty lines are dropped, after a part that was left out behind one.
	number, blank := 0, false
	for line := range strings.Lines(text) {
		number++
		if mark := beginMark.FindStringSubmatch(strings.TrimRight(line, "\n")); mark != nil {
			if began != 0 {
				return "", fmt.Errorf("%d: a part begins within the one that begins in line %d", number, began)
			}
			// A part stays if the project has one of the services that it names.
			began, stays = number, slices.ContainsFunc(
				strings.Fields(mark[1]),
				func(name string) bool { return slices.Contains(services, name) },
			)
			continue
		}
		if endMark.MatchString(strings.TrimRight(line, "\n")) {
			if began == 0 {
				return "", fmt.Errorf("%d: a part ends that did not begin", number)
			}
			// A part that is left out takes one of the empty lines around it with it.
			blank = !stays && strings.HasSuffix("\n"+kept.String(), "\n\n")
			began, stays = 0, true
			continue
		}
		if stays && (!blank || strings.TrimSpace(line) != "") {
			kept.WriteString(line)
		}
		blank = blank && !stays
	}
	if began != 0 {
		return "", fmt.Errorf("%d: a part begins that does not end", began)
	}
	return kept.String(), nil
}

// section is what a document has below a heading of second order, with the heading.
func section(document, heading string) (string, error) {
	_, after, found := strings.Cut(document, "\n## "+heading+"\n")
	if !found {
		return "", fmt.Errorf("README.md has no heading %q", heading)
	}
	// It goes to the next heading of the same order, or to the end.
	body, _, _ := strings.Cut(after, "\n## ")
	return "## " + heading + "\n" + strings.TrimRight(body, "\n"), nil
}

// block is the first block of code in a text.
func block(text string) (string, error) {
	// A fence may have the name of a language behind it, to the end of the line.
	_, after, found := strings.Cut(text, "\n```")
	_, after, _ = strings.Cut(after, "\n")
	code, _, ended := strings.Cut(after, "\n```")
	if !found || !ended {
		return "", fmt.Errorf("there is no block of code in %q", text)
	}
	return code, nil
}

// mapOf is the map of a README without the lines of what is not in a folder. A line that is
// indented belongs to the last one above it that is less so. Lines of several names keep those that
// are there.
func mapOf(readme, root string) (string, error) {
	text, err := section(readme, "The map")
	if err != nil {
		return "", err
	}
	all, err := block(text)
	if err != nil {
		return "", err
	}
	// Where the descriptions begin, if the names leave room.
	column := len(regexp.MustCompile(`^\S*(?: \S+)*  +`).FindString(all))
	var kept []string
	var above []string // the folder at each level
	for line := range strings.SplitSeq(all, "\n") {
		indented := len(line) - len(strings.TrimLeft(line, " "))
		// The map indents each level by two blanks.
		level := indented / 2
		// Two blanks separate the names from the description.
		names, about, described := strings.Cut(line[indented:], "  ")
		if level > len(above) {
			continue // It belongs to what is not there.
		}
		above = above[:level]
		var there []string
		for _, name := range strings.Fields(names) {
			if _, err := os.Lstat(filepath.Join(root, path.Join(path.Join(above...), name))); err == nil {
				there = append(there, name)
			}
		}
		if len(there) == 0 {
			continue
		}
		if described {
			line = line[:indented] + strings.Join(there, " ")
			line += strings.Repeat(" ", max(2, column-len(line))) + strings.TrimLeft(about, " ")
		} else {
			line = line[:indented] + strings.Join(there, " ")
		}
		kept = append(kept, line)
		// Lines below are in this folder.
		above = append(above, strings.TrimSuffix(there[0], "/"))
	}
	return strings.Join(kept, "\n"), nil
}

// cutPlatformSchema removes from the schema of the development platform's values, which has no
// comments, the parts that its values do not have any more.
func cutPlatformSchema(root string) error {
	folder := filepath.Join(root, "charts", "platform")
	values, err := os.ReadFile(filepath.Join(folder, "values.yaml"))
	if err != nil {
		return err
	}
	file := filepath.Join(folder, "values.schema.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var schema struct {
		Required []string `json:"required"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, part := range schema.Required {
		if regexp.MustCompile(`(?m)^` + part + `:`).Match(values) {
			continue
		}
		text = regexp.MustCompile(`"`+part+`", `).ReplaceAll(text, nil)
		text = regexp.MustCompile(
			`(?m)^    "`+part+`": \{\n(?:      .*\n)*    \},\n`,
		).ReplaceAll(
			text,
			nil,
		)
	}
	// The schema has another layout than these patterns expect.
	if !json.Valid(text) {
		return fmt.Errorf("%s is no JSON any more", file)
	}
	return rewrite(file, string(text))
}
