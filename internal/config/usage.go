package config

import (
	"encoding"
	"reflect"
	"strings"
)

// Variable describes one environment variable.
type Variable struct {
	Name        string // full, with every prefix
	Default     string // as it would be written in the environment; empty if none
	Description string // from the tag `desc`
}

// Usage lists the variables that Load[T] reads, in the order of the fields.
func Usage[T any]() []Variable {
	var variables []Variable
	walk(reflect.TypeFor[T](), Prefix, func(field reflect.StructField, prefix string) {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		variables = append(variables, Variable{
			Name:        prefix + name,
			Default:     field.Tag.Get("envDefault"),
			Description: field.Tag.Get("desc"),
		})
	})
	return variables
}

// walk visits each field of t that has a variable, with the prefix that stands
// before its name.
func walk(t reflect.Type, prefix string, visit func(reflect.StructField, string)) {
	if t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case !field.IsExported():
		case field.Tag.Get("env") != "":
			visit(field, prefix)
		case isGroup(field.Type):
			walk(field.Type, prefix+field.Tag.Get("envPrefix"), visit)
		}
	}
}

// isGroup tells a struct of variables from a struct that is one value, such as
// a URL or a time.
func isGroup(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
