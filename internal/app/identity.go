// Package app runs a process: it reads the configuration, opens listeners, health, metrics and traces, watches what its
// services depend on, and drains in order when it is told to stop. It knows no service by name; a program gives it a list.
package app

import "strings"

// Identity is the name of the product, in the one place where it stands in Go. Everything that bears it is derived from it.
type Identity struct {
	// Name has lower case letters, digits and dashes, and begins with a letter: "shop".
	Name string
}

// EnvironmentPrefix begins the names of environment variables: "SHOP_".
func (i Identity) EnvironmentPrefix() string { return strings.ToUpper(i.Namespace()) + "_" }

// Namespace begins the names of metrics, span attributes and settings, which take no dashes: "shop".
func (i Identity) Namespace() string { return strings.ReplaceAll(i.Name, "-", "_") }

// Component names one of the product's programs in traces, metrics and the chart: "shop-server".
func (i Identity) Component(program string) string { return i.Name + "-" + program }

// ErrorDomain is the domain of the ErrorInfo in errors.
func (i Identity) ErrorDomain() string { return i.Name }
