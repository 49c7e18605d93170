// Package initlog discards what other packages log while they are initialised: the process has no
// logger yet, and the lines on standard error would not be in its format. OpenTelemetry logs there
// that a limit is not a number, which package telemetry checks as well.
//
// Go initialises packages that do not import each other in the order of their paths, so that ours
// comes before OpenTelemetry's. It has no effect in a module whose path sorts after
// "go.opentelemetry.io".
package initlog

import (
	"log"
	"log/slog"
)

// The loggers as they were when the process started. slog.SetDefault also redirects Go's log
// package, so that its writer and flags have to be kept, too.
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
