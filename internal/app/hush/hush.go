// Package hush keeps to itself what other packages log while they are initialised: the process has
// no log yet, and on standard error it would be lines that are not in its form. OpenTelemetry
// complains so of limits that are no numbers, which package telemetry checks as well.
//
// Go initialises packages that do not need each other in the order of their paths, so that ours
// comes before OpenTelemetry's. Where the path of the module is behind "go.opentelemetry.io" it
// comes too late.
package hush

import (
	"log"
	"log/slog"
)

var before, writer, flags = slog.Default(), log.Writer(), log.Flags()

func init() { //nolint:gochecknoinits // It has to be before main.
	slog.SetDefault(slog.New(slog.DiscardHandler)) //nolint:forbidigo // As above.
}

// End puts Go's loggers back as they were.
func End() {
	slog.SetDefault(before) //nolint:forbidigo // It undoes what init did.
	log.SetOutput(writer)   //nolint:forbidigo // As above.
	log.SetFlags(flags)     //nolint:forbidigo // As above.
}
