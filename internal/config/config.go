// Package config turns environment variables into structs. It reports every problem at once,
// because a rollout per typing mistake is a slow way to learn them.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Group is a struct of variables. A process has several: its own and one for each service, which do
// not know each other.
type Group struct {
	// Prefix stands between the prefix of the product and the names of the group: "OBJECT_", or "".
	Prefix string
	// Into points to the struct. Its fields take their name from the tag `env:"NAME"`, after the
	// `envPrefix` tags of the structs around them, their default from the tag `envDefault` or else
	// from the value that they have before Load, and their description from the tag `desc`.
	Into any
}

// Load fills the groups from environ, whose entries look like os.Environ's. A variable that is set
// but blank has its default. prefix begins the names of all variables: "SHOP_".
//
// The error holds one line per problem: values that do not parse, variables with the prefix that no
// group has, and what the Validate methods of the structs say. Service links, which Kubernetes puts
// into every container of the namespace, are no problem, even where one has the name of a variable
// of ours.
func Load(prefix string, environ []string, groups ...Group) error {
	// Three kinds of mistakes are collected, and none hides another: names that nothing knows, names
	// that two groups share, and values that do not parse or are not valid.
	ours := own(prefix, environ)
	variables := Usage(prefix, groups...)
	problems := unknown(prefix, ours, variables)
	for i, variable := range variables {
		// With two variables of one name an operator could not set either alone. It is a mistake of the
		// program.
		if slices.ContainsFunc(variables[:i], func(v Variable) bool { return v.Name == variable.Name }) {
			problems = append(
				problems,
				fmt.Errorf("%s: two structs have a variable of this name", variable.Name),
			)
		}
	}
	for _, group := range groups {
		problems = append(problems, fill(prefix, ours, group)...)
	}
	return errors.Join(problems...)
}

// Defaults returns a struct of variables as it is when none is set.
func Defaults[T any]() (cfg T, err error) {
	err = Load("", nil, Group{Into: &cfg})
	return cfg, err
}

// own picks the variables with the prefix, without service links and without those that are empty.
// Blanks around a value mean nothing: they come from the line in a file, or from a Secret that ends
// with a newline.
func own(prefix string, environ []string) map[string]string {
	ours := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		// Service links are looked for in the untrimmed entry: Kubernetes writes them without blanks.
		if !strings.HasPrefix(name, prefix) || isServiceLink(entry) {
			continue
		}
		ours[name] = strings.TrimSpace(value)
		if ours[name] == "" { // As with exec, the last of a name counts.
			delete(ours, name)
		}
	}
	return ours
}

// fill sets the fields of a group one variable at a time: env names the Go field in its errors, and
// an operator knows only the variable. A variable that does not parse leaves its default, so that
// everything else can still be checked.
func fill(prefix string, ours map[string]string, group Group) (problems []error) {
	options := env.Options{Prefix: prefix + group.Prefix}
	usable := map[string]string{}
	for _, variable := range Usage(prefix, group) {
		// A variable that is not set has its default from the struct in the last step.
		value, set := ours[variable.Name]
		if !set {
			continue
		}
		// This parse is only a check, on a copy of the struct. It sees this variable alone, so that its
		// error is about no other.
		options.Environment = map[string]string{variable.Name: value}
		if err := env.ParseWithOptions(fresh(group.Into), options); err != nil {
			problems = append(problems, unparsable(variable.Name, value, parseError(err)))
		} else {
			usable[variable.Name] = value
		}
	}
	// Now the real struct is filled at once, with the values that are known to parse.
	options.Environment = usable
	if err := env.ParseWithOptions(group.Into, options); err != nil {
		return append(problems, err) // A mistake in the struct itself.
	}
	// Validate is called also when a value did not parse: it sees the default there, and finds what is
	// wrong with the other values in the same run.
	for _, problem := range invalid(prefix+group.Prefix, group.Into) {
		problems = append(problems, errors.New(problem))
	}
	return problems
}

// parseError is what is wrong with a value, without the name of its Go field.
func parseError(err error) error {
	// env wraps the error of the value in a ParseError, which begins with the field's name and type.
	if parse, ok := errors.AsType[env.ParseError](err); ok {
		return parse.Err
	}
	return err
}

// unknown reports the names that no group has: a misspelled limit that is silently not in force is
// worse than a process that does not start.
func unknown(prefix string, ours map[string]string, variables []Variable) (problems []error) {
	known := make([]string, len(variables))
	for i, v := range variables {
		known[i] = v.Name
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if !slices.Contains(known, name) {
			problems = append(
				problems,
				fmt.Errorf("%s: no such variable%s", name, suggestion(prefix, name, known)),
			)
		}
	}
	return problems
}
