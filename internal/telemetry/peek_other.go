//go:build !unix

package telemetry

// peek takes every connection for HTTP/2, where only the client is run.
func peek(_ uintptr, into []byte) (int, error) { return copy(into, preface), nil }
