package config

import (
	"errors"
	"reflect"
	"strings"
)

// problem is an error of the configuration, see Problem.
type problem struct{ error }

// Unwrap lets errors.Is and errors.As see the error below.
func (p problem) Unwrap() error { return p.error }

// Problem makes err one of the configuration that shows only when it is used. Its lines begin with
// names of variables as those of a Validate method do.
func Problem(err error) error { return problem{err} }

// IsProblem reports whether err wraps a Problem.
func IsProblem(err error) bool {
	_, ok := errors.AsType[problem](err)
	return ok
}

// Complete writes what stands before the names of the group's variables into the lines of a
// Problem. Any other error stays as it is.
func Complete(prefix string, group Group, err error) error {
	if !IsProblem(err) {
		return err
	}
	return Problem(
		errors.New(
			strings.Join(prefixed(err, reflect.ValueOf(group.Into).Elem(), prefix+group.Prefix), "\n"),
		),
	)
}
