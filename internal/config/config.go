// Package config turns environment variables into a struct. It reports every
// problem at once, because a rollout per typing mistake is a slow way to learn
// them.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix begins the name of every variable of ours.
const Prefix = "QUARTET_"

// Load reads a T from environ, whose entries look like os.Environ's. Fields
// take their name from the tag `env:"NAME"`, behind Prefix and the `envPrefix`
// tags of the structs around them, and their default from `envDefault`. A
// variable that is set but empty has its default.
//
// The error holds one line per problem: values that do not parse, variables
// with our prefix that no field has, and what the Validate methods of T and of
// the structs in it say. Service links, which Kubernetes puts into every
// container of the namespace, are no problem, even where one has the name of a
// variable of ours.
func Load[T any](environ []string) (T, error) {
	variables := Usage[T]()
	ours := own(environ)

	problems := append(unknown(ours, variables), takeUnreadable[T](ours)...)
	var cfg T
	err := env.ParseWithOptions(&cfg, env.Options{Prefix: Prefix, Environment: ours})
	problems = append(problems, absent(err)...)
	for _, problem := range invalid(&cfg) {
		problems = append(problems, errors.New(problem))
	}
	return cfg, errors.Join(problems...)
}

// own picks the variables with our prefix, without service links.
func own(environ []string) map[string]string {
	ours := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, Prefix) && !isServiceLink(entry) {
			ours[name] = value
		}
	}
	return ours
}

// takeUnreadable takes the variables that do not parse out of ours: their fields
// keep the default, so that everything else can still be checked. It parses each
// variable by itself, because env names the Go field in its errors, and whoever
// has to mend a value knows only the variable.
func takeUnreadable[T any](ours map[string]string) []error {
	var problems []error
	var unreadable []string
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		var cfg T
		err := env.ParseWithOptions(&cfg, env.Options{Prefix: Prefix, Environment: map[string]string{name: ours[name]}})
		for _, parse := range flatten[env.ParseError](err) {
			problems = append(problems, fmt.Errorf("%s=%q: %w", name, ours[name], parse.Err))
			unreadable = append(unreadable, name)
		}
	}
	for _, name := range unreadable {
		delete(ours, name)
	}
	return problems
}

// absent is what remains of env's errors once all values parse: variables that
// are required, and mistakes in T itself.
func absent(err error) []error {
	var aggregate env.AggregateError
	if errors.As(err, &aggregate) {
		return aggregate.Errors
	}
	return nil
}

// flatten returns the errors of type E among those that env collected.
func flatten[E error](err error) []E {
	var found []E
	for _, one := range absent(err) {
		if e, ok := errors.AsType[E](one); ok {
			found = append(found, e)
		}
	}
	return found
}
