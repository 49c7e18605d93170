package workload

import (
	"errors"
	"fmt"
	"math"
	"time"

	"example.com/quartet/internal/config"
)

// Config is how much traffic there is. A rate is in operations per second, and 0 turns its mode off.
type Config struct {
	Lookups     float64       `env:"LOOKUPS" envDefault:"5" desc:"objects looked up per second (unary); 0 for none"`
	Downloads   float64       `env:"DOWNLOADS" envDefault:"0.5" desc:"objects downloaded per second (server streaming); 0 for none"`
	Uploads     float64       `env:"UPLOADS" envDefault:"0.5" desc:"objects uploaded per second (client streaming); 0 for none"`
	Messages    float64       `env:"MESSAGES" envDefault:"5" desc:"messages said per second (bidirectional); 0 for none"`
	ObjectBytes config.Bytes  `env:"OBJECT_BYTES" envDefault:"1MiB" desc:"size of the objects"`
	Timeout     time.Duration `env:"TIMEOUT" envDefault:"30s" desc:"time after which an operation counts as bad"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	var problems []error
	for _, rate := range []struct {
		name  string
		value float64
	}{{"LOOKUPS", c.Lookups}, {"DOWNLOADS", c.Downloads}, {"UPLOADS", c.Uploads}, {"MESSAGES", c.Messages}} {
		if !(rate.value >= 0 && rate.value <= 1e6) {
			problems = append(problems, fmt.Errorf("%s=%v: is not between 0 and a million", rate.name, rate.value))
		}
	}
	if c.ObjectBytes < 1 || c.ObjectBytes > math.MaxInt64/2 {
		problems = append(problems, fmt.Errorf("OBJECT_BYTES=%v: has to be at least 1", c.ObjectBytes))
	}
	if c.Timeout <= 0 {
		problems = append(problems, fmt.Errorf("TIMEOUT=%v: has to be more than zero", c.Timeout))
	}
	return errors.Join(problems...)
}
