package channel

import (
	"example.com/quartet/internal/traffic"
)

// Config is what can be set of the steady traffic of `client serve`, each value by an environment
// variable.
type Config struct {
	Messages float64 `env:"TRAFFIC_MESSAGES" envDefault:"5" desc:"serve: messages sent and received per second; 0 for none"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error { return traffic.ValidRate("TRAFFIC_MESSAGES", c.Messages) }
