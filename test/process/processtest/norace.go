//go:build !race

package processtest

var buildFlags []string
