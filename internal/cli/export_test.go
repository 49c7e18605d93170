package cli

import (
	"github.com/spf13/cobra"

	"example.com/quartet/internal/telemetry"
)

// Absence is how long servers may be away before operations are given up.
const Absence = absence

// Root has all commands of a program.
func Root(p Program) *cobra.Command { return p.command(nil, nil, nil, nil).root() }

// Grace is how long a command that was interrupted has to end by itself.
const Grace = grace

// ExitInterrupted is the exit code after an interrupt.
const ExitInterrupted = exitInterrupted

// ParseTarget reads where services are.
var ParseTarget = parseTarget

// CallTelemetry is the telemetry of the connections of a command.
func CallTelemetry(
	t *telemetry.Telemetry,
) *telemetry.Telemetry {
	return new(command).callTelemetry(t)
}
