package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
)

// Variable describes one environment variable.
type Variable struct {
	Name        string // full, with every prefix
	Default     string // as it would be written in the environment; empty if none
	Description string // from the tag `desc`
}

// Usage lists the variables that Load reads, in the order of the groups and of their fields.
func Usage(prefix string, groups ...Group) []Variable {
	var variables []Variable
	for _, group := range groups {
		walk(
			reflect.ValueOf(group.Into).Elem(),
			prefix+group.Prefix,
			func(field reflect.StructField, value reflect.Value, prefix string) {
				name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
				variable := Variable{
					Name:        prefix + name,
					Default:     field.Tag.Get("envDefault"),
					Description: field.Tag.Get("desc"),
				}
				// A default may come from the program instead of the tag: the value that the field has before
				// Load.
				if variable.Default == "" && !value.IsZero() {
					variable.Default = fmt.Sprint(value.Interface())
				}
				variables = append(variables, variable)
			},
		)
	}
	return variables
}

// fresh returns a pointer to a struct like the one that into points to, with its values from before
// Load.
func fresh(into any) any {
	like := reflect.New(reflect.TypeOf(into).Elem())
	like.Elem().Set(reflect.ValueOf(into).Elem())
	return like.Interface()
}

// walk visits each field of a struct that has a variable, with the prefix that stands before its
// name.
func walk(v reflect.Value, prefix string, visit func(reflect.StructField, reflect.Value, string)) {
	if v.Kind() != reflect.Struct {
		// A group may point to something that is no struct; env reports that as a mistake of the program.
		return
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		// reflect could read unexported fields, but env cannot set them.
		case !field.IsExported():
		case field.Tag.Get("env") != "":
			visit(field, v.Field(i), prefix)
		// A struct without a variable of its own has some inside, under its prefix.
		case isGroup(field.Type):
			walk(v.Field(i), prefix+field.Tag.Get("envPrefix"), visit)
		}
	}
}

// isGroup tells a struct of variables from a struct that is one value, such as
// a URL or a time.
func isGroup(t reflect.Type) bool {
	return t.Kind() == reflect.Struct &&
		!reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
