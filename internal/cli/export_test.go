package cli

// Absence is how long servers may be away before operations are given up.
const Absence = absence

// ExitInterrupted is the exit code after an interrupt.
const ExitInterrupted = exitInterrupted

// ParseTarget reads where services are.
var ParseTarget = parseTarget
