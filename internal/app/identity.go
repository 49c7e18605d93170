// Package app runs a process: it reads the configuration, opens listeners, health, metrics and
// traces, watches what its services depend on, and drains in order when it is told to stop. It
// knows no service by name; a program gives it a list.
package app

import (
	"slices"
	"strings"

	"example.com/quartet/internal/config"
)

// Identity is the name of the product. It stands in one place in Go, and everything that contains
// the name is derived from it.
type Identity struct {
	// Name has lower case letters, digits and dashes, and begins with a letter: "shop".
	Name string
	// Variables are the environment variables of all programs of the product, without the prefix.
	// A program ignores those of the other programs, and reports any other name with the prefix as a
	// mistake.
	Variables []string
}

// Own leaves out of environ the variables of the product's other programs. groups are those of this
// one.
func (i Identity) Own(environ []string, groups ...config.Group) []string {
	others := map[string]bool{}
	for _, name := range i.Variables {
		others[i.EnvironmentPrefix()+name] = true
	}
	// A variable that this program has, too, is its own.
	for _, variable := range config.Usage(i.EnvironmentPrefix(), groups...) {
		delete(others, variable.Name)
	}
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return others[name]
	})
}

// EnvironmentPrefix begins the names of environment variables: "SHOP_".
func (i Identity) EnvironmentPrefix() string { return strings.ToUpper(i.Namespace()) + "_" }

// Namespace begins the names of metrics, span attributes and settings, which take no dashes:
// "shop".
func (i Identity) Namespace() string { return strings.ReplaceAll(i.Name, "-", "_") }

// Component names one of the product's programs in traces, metrics and the chart: "shop-server".
func (i Identity) Component(program string) string { return i.Name + "-" + program }

// ErrorDomain is the domain of the ErrorInfo in errors.
func (i Identity) ErrorDomain() string { return i.Name }
