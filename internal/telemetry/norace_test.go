//go:build !race

package telemetry

const raced = false
