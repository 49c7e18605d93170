//go:build !linux

package object

// isMount tells whether a file is a mount of its own, which only Linux has.
func isMount(string) bool { return false }
