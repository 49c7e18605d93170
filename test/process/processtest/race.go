//go:build race

package processtest

// buildFlags has the children look for races as well when the test does.
var buildFlags = []string{"-race"}
