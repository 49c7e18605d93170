//go:build !unix

package cli

// wasClosed tells whether a standard stream was closed when the program started, where that can be
// told.
func wasClosed(any) bool { return false }
