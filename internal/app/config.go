package app

import (
	"errors"
	"fmt"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
)

// Config has the settings of every process that runs until SIGTERM.
type Config struct {
	ProbeAddress config.Address `env:"PROBE_ADDRESS" desc:"where the kubelet asks grpc.health.v1 for liveness and readiness, always in plaintext"`
	HTTPAddress  config.Address `env:"HTTP_ADDRESS" desc:"where /metrics is"`
	// ProfileAddress is in no Service of the chart: kubectl port-forward reaches the pod's loopback
	// interface.
	ProfileAddress config.Address `env:"PROFILE_ADDRESS" desc:"where /debug/pprof/ is, such as 127.0.0.1:6060; empty for nowhere"`
	MemoryLimit    config.Bytes   `env:"MEMORY_LIMIT" envDefault:"0B" desc:"memory of the process: Go's limit follows from it unless GOMEMLIMIT is set; if 0, there is none"`
	// Variables of Drain begin with DRAIN_, and those of Telemetry have no prefix.
	Drain     DrainConfig `envPrefix:"DRAIN_"`
	Telemetry telemetry.Config
}

// Validate refuses a memory limit that is too small for the program itself.
func (c Config) Validate() error {
	if c.MemoryLimit > 0 && c.MemoryLimit < programMemory {
		// The name of the variable begins the text: config writes the prefix of the product before it.
		return fmt.Errorf(
			"MEMORY_LIMIT=%v: is less than the %v that the program itself takes; 0 is no limit",
			c.MemoryLimit,
			config.Bytes(programMemory),
		)
	}
	return nil
}

// DrainConfig is how long the process takes from SIGTERM to its exit. The process divides its
// budget by itself; the chart adds only its own pause before SIGTERM to it.
type DrainConfig struct {
	// Budget bounds all steps together. In Kubernetes it has to be shorter than
	// terminationGracePeriodSeconds, after which the kubelet kills the process; the chart computes
	// that from this value.
	Budget time.Duration `env:"BUDGET" envDefault:"45s" desc:"time from SIGTERM to the exit, at most; what the following and the closing of backends leave of it is for calls under way"`
	// Delay is for what the process cannot see: EndpointSlices and DNS still name it for a while.
	Delay time.Duration `env:"DELAY" envDefault:"1s" desc:"wait after turning unready, for endpoints and clients to notice"`
	// ScrapeWait lets Prometheus read the counters of the last calls, which are lost otherwise.
	ScrapeWait time.Duration `env:"SCRAPE_WAIT" envDefault:"0s" desc:"wait at most so long for a last scrape of /metrics"`
}

// maxClosing is how much of the budget is kept for closing backends, exporting the last of the
// telemetry, and stopping what answers probes and scrapes; it is at most a third.
const maxClosing = 15 * time.Second

// closing is the time for what comes after the calls, without the last scrape: three fifths for
// backends, one for the export, one for stopping.
func (c DrainConfig) closing() time.Duration { return min(c.Budget/3, maxClosing) }

// Together these three are closing, so that no step has to know of the others.
func (c DrainConfig) backends() time.Duration { return c.closing() * 3 / 5 }
func (c DrainConfig) export() time.Duration   { return c.closing() / 5 }
func (c DrainConfig) stopping() time.Duration { return c.closing() / 5 }

// calls is the time for calls under way: what the other steps leave of the budget.
func (c DrainConfig) calls() time.Duration {
	return c.Budget - c.closing() - c.Delay - c.ScrapeWait
}

// Validate refuses a budget that leaves calls no time.
func (c DrainConfig) Validate() error {
	var problems []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"DELAY", c.Delay}, {"SCRAPE_WAIT", c.ScrapeWait}} {
		if d.value < 0 {
			problems = append(problems, fmt.Errorf("%s=%v: is negative", d.name, d.value))
		}
	}
	// With a negative value the sum says nothing, and one message for one mistake is enough.
	if len(problems) == 0 && c.calls() <= 0 {
		problems = append(
			problems,
			fmt.Errorf(
				"BUDGET=%v: leaves no time for calls, after %v of DELAY, %v of SCRAPE_WAIT and %v for closing",
				c.Budget,
				c.Delay,
				c.ScrapeWait,
				c.closing(),
			),
		)
	}
	return errors.Join(problems...)
}
