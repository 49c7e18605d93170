package config

import (
	"reflect"
	"slices"
	"strings"
)

// Validator is what a struct of variables implements when its values depend on
// each other or have limits. Each line of the error begins with the name of
// the variable as in its `env` tag; Load writes the prefix before it, because
// the struct cannot know where it is used.
type Validator interface{ Validate() error }

// invalid calls Validate of the struct that cfg points to, and of every struct inside it.
func invalid(prefix string, cfg any) []string {
	var problems []string
	// ask goes down the struct and keeps the prefix that the fields around each inner struct add.
	var ask func(v reflect.Value, prefix string)
	ask = func(v reflect.Value, prefix string) {
		// v is addressable because cfg is a pointer, so Validate may have a pointer or a value as
		// receiver.
		if validator, ok := v.Addr().Interface().(Validator); ok {
			for _, problem := range prefixed(validator.Validate(), v, prefix) {
				// An embedded struct is asked through the outer one too.
				if !slices.Contains(problems, problem) {
					problems = append(problems, problem)
				}
			}
		}
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && field.Tag.Get("env") == "" &&
				isGroup(field.Type) {
				ask(v.Field(i), prefix+field.Tag.Get("envPrefix"))
			}
		}
	}
	if v := reflect.ValueOf(cfg).Elem(); v.Kind() == reflect.Struct {
		ask(v, prefix)
	}
	return problems
}

// nameBytes are the bytes that a name of a variable consists of; the first other byte ends the
// name.
const nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// prefixed completes the names with which the lines of err begin. The text
// stays the same otherwise; a line that names no variable is kept as it is.
func prefixed(err error, v reflect.Value, prefix string) []string {
	if err == nil {
		return nil
	}
	// Only a line that begins with the name of a variable of this struct gets the prefix. inner is the
	// envPrefix of structs inside v, which Validate writes itself.
	names := map[string]bool{}
	walk(v, "", func(field reflect.StructField, _ reflect.Value, inner string) {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		names[inner+name] = true
	})
	var problems []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		if name := line[:len(line)-len(strings.TrimLeft(line, nameBytes))]; names[name] {
			line = prefix + line
		}
		problems = append(problems, line)
	}
	return problems
}
