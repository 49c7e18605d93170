//go:build race

package telemetry

// raced is true where the race detector allocates on its own.
const raced = true
